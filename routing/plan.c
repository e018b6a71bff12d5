#include "routing/plan.h"
void planner_finish(struct planner *planner) {(void)planner;}
bool plan_make(struct planner *planner, const struct topology *topology, const struct command *command,
               const struct slice *words, size_t count, bool may_split, struct plan *plan)
{
    (void)planner;(void)may_split;
    uint32_t p[8]; int n = command ? command_keys(command, words, count, p, 8) : 0;
    *plan = (struct plan){.kind = n > 0 ? PLAN_PLACE : PLAN_ANYWHERE};
    if (n > 0) { plan->place = topology_place_of(topology, words[p[0]]); plan->has_several_keys = n > 1; }
    return true;
}
size_t plan_piece_size(const struct plan *plan, const struct plan_piece *piece, const struct command *command,
                       const struct slice *words) {(void)plan;(void)piece;(void)command;(void)words;return 0;}
size_t plan_piece_encode(const struct plan *plan, const struct plan_piece *piece, const struct command *command,
                         const struct slice *words, char *out){(void)plan;(void)piece;(void)command;(void)words;(void)out;return 0;}
