/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim_fault.h - what goes wrong, until sim->faults_end_us: then all is made well.
 *
 * By chance, one after the other and also at the same time: nodes are killed, frozen, slow, or lag; connections break;
 * Sentinels freeze, all of them as well, or do not hear of the others; somebody orders a failover. In rolling weather
 * each node in its turn, and at the end a third of all masters, which are back three seconds later.
 *
 * Owner: the sim.
 */
#ifndef SIMULATION_SIM_FAULT_H
#define SIMULATION_SIM_FAULT_H

#include "tests/simulation/sim.h"

void sim_faults_start(struct sim *sim);

#endif
