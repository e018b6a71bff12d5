// SPDX-License-Identifier: BSD-2-Clause
// What the scenarios of several clients need.
'use strict';

const readline = require('node:readline');

const COUNTERS = 5;
const ADD_TWICE = "redis.call('incrby', KEYS[1], ARGV[1]) return redis.call('incrby', KEYS[1], ARGV[1])";

const range = (count) => Array.from({ length: count }, (_, number) => number);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function waitFor(question, what, limitMs = 10000) {
    const deadline = Date.now() + limitMs;
    while (!(await question())) {
        if (Date.now() > deadline)
            throw new Error(`waited in vain for ${what}`);
        await sleep(10);
    }
}

// Notes every one of these events that `emitter` emits, by name, so that a scenario can say that there were none.
function noteEvents(emitter, names) {
    const seen = [];
    for (const name of names)
        emitter.on(name, (detail) => seen.push(detail instanceof Error ? `${name}: ${detail.message}` : name));
    return seen;
}

/*
 * Increments COUNTERS keys in closed loops over one connection until a line comes on stdin, then prints what it was
 * told as JSON. increment(key) is the client's INCR, identify() its CLIENT ID, seen what noteEvents() gave.
 */
async function countUntilTold(here, increment, identify, seen) {
    const identity = await identify();
    let isEnding = false;
    const counters = range(COUNTERS).map((number) => (
        { key: `${here.prefix}${number}`, values: [], errors: [], lastMs: 0 }
    ));
    const count = async (counter) => {
        while (!isEnding) {
            try {
                counter.values.push(await increment(counter.key));
                counter.lastMs = Date.now();
            } catch (error) {
                counter.errors.push(error.message);
            }
            await sleep(2);
        }
    };
    const loops = counters.map(count);
    await waitFor(() => counters.every((counter) => counter.values.length > 10), 'all to count');
    console.log('counting');
    await new Promise((resolve) => readline.createInterface({ input: process.stdin }).once('line', resolve));
    isEnding = true;
    await Promise.all(loops);
    console.log(JSON.stringify({ counters, seen: [...seen], sameConnection: (await identify()) === identity }));
}

module.exports = { ADD_TWICE, countUntilTold, noteEvents, range, sleep, waitFor };
