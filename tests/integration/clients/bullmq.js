// SPDX-License-Identifier: BSD-2-Clause
// BullMQ: a queue, a worker with its blocking connection, and the events of both, all through Pointsman.
'use strict';

const assert = require('node:assert/strict');
const readline = require('node:readline');
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');
const { noteEvents, range, sleep, waitFor } = require('./tools.js');

const JOBS = 200;

const optionsOf = (here) => ({ connection: { host: '127.0.0.1', port: here.port }, prefix: here.prefix });

async function jobs_are_done_exactly_once_delayed_ones_included(here) {
    const options = optionsOf(here);
    const queue = new Queue('work', options);
    const events = new QueueEvents('work', options);
    const runs = new Map();
    const completed = new Map();
    const tooEarly = [];
    const count = (map, id) => map.set(id, (map.get(id) ?? 0) + 1);
    events.on('completed', ({ jobId }) => count(completed, jobId));
    await events.waitUntilReady();
    const worker = new Worker('work', async (job) => {
        count(runs, job.id);
        if (Date.now() < job.timestamp + (job.opts.delay ?? 0))
            tooEarly.push(job.id);
        await sleep(1);
        return job.data.number * 2;
    }, { ...options, concurrency: 10 });
    worker.on('error', (error) => { throw error; });
    await worker.waitUntilReady();
    for (const number of range(JOBS / 2))
        await queue.add('one', { number }, number % 5 === 0 ? { delay: 100 + 5 * number } : {});
    await queue.addBulk(range(JOBS / 2).map((number) => ({ name: 'bulk', data: { number } })));
    await waitFor(() => completed.size === JOBS, 'all jobs to be done');
    await sleep(200); // would one of them be done again now?
    assert.equal(runs.size, JOBS);
    assert.deepEqual([...runs.values(), ...completed.values()].filter((times) => times !== 1), []);
    assert.deepEqual(tooEarly, []);
    const counts = await queue.getJobCounts('completed', 'failed', 'delayed', 'active', 'waiting');
    assert.equal(counts.completed, JOBS);
    assert.equal(Object.values(counts).reduce((sum, count) => sum + count), JOBS); // so all others are 0
    const jobs = await queue.getCompleted();
    assert.ok(jobs.every((job) => job.returnvalue === job.data.number * 2));
    assert.equal((await queue.getWorkers()).length, 1); // by the name in CLIENT LIST
    await worker.close();
    await queue.obliterate();
}

async function failed_jobs_are_tried_again_and_results_awaited(here) {
    const options = optionsOf(here);
    const queue = new Queue('fragile', options);
    const events = new QueueEvents('fragile', options);
    await events.waitUntilReady();
    const worker = new Worker('fragile', async (job) => {
        if (job.attemptsMade < 2)
            throw new Error('not yet');
        return `done after ${job.attemptsMade + 1}`;
    }, options);
    const retried = { attempts: 3, backoff: { type: 'fixed', delay: 50 } };
    const job = await queue.add('job', {}, retried);
    assert.equal(await job.waitUntilFinished(events, 10000), 'done after 3');
    const hopeless = await queue.add('job', {}, { attempts: 1 });
    await assert.rejects(hopeless.waitUntilFinished(events, 10000), /not yet/);
    await worker.close();
}

async function parent_waits_for_its_children(here) {
    const options = optionsOf(here);
    const order = [];
    const worker = new Worker('tree', async (job) => { order.push(job.name); return job.name; }, options);
    const flow = new FlowProducer(options);
    const children = range(5).map((number) => ({ name: `child${number}`, queueName: 'tree' }));
    const { job } = await flow.add({ name: 'parent', queueName: 'tree', children });
    await waitFor(() => order.includes('parent'), 'the parent to run');
    assert.equal(order.at(-1), 'parent');
    assert.equal(order.length, 6);
    assert.deepEqual(Object.values(await job.getChildrenValues()).sort(), children.map((child) => child.name));
    await worker.close();
}

async function repeatable_jobs_run_again_and_again_until_removed(here) {
    const options = optionsOf(here);
    const queue = new Queue('ticks', options);
    const runs = [];
    const worker = new Worker('ticks', async (job) => { runs.push(job.data.number); }, options);
    await queue.upsertJobScheduler('often', { every: 100 }, { name: 'tick', data: { number: 1 } });
    await queue.upsertJobScheduler('thrice', { every: 50, limit: 3 }, { name: 'tick', data: { number: 3 } });
    await waitFor(() => runs.filter((number) => number === 1).length >= 4, 'the job to be repeated');
    assert.equal(runs.filter((number) => number === 3).length, 3);
    await queue.upsertJobScheduler('often', { every: 60 }, { name: 'tick', data: { number: 2 } });
    await waitFor(() => runs.filter((number) => number === 2).length >= 2, 'the changed job');
    assert.ok((await queue.getJobSchedulers()).some(({ key }) => key === 'often'));
    assert.ok(await queue.removeJobScheduler('often'));
    assert.equal(await queue.getDelayedCount(), 0);
    await worker.close();
}

async function flow_of_several_levels_fails_and_succeeds_as_told(here) {
    const options = optionsOf(here);
    const order = [];
    const worker = new Worker('levels', async (job) => {
        order.push(job.name);
        if (job.name === 'bad')
            throw new Error('meant so');
        return Object.values(await job.getChildrenValues()).reduce((sum, value) => sum + value, 1);
    }, { ...options, concurrency: 3 });
    const flow = new FlowProducer(options);
    const node = (name, children = [], opts = {}) => ({ name, queueName: 'levels', children, opts });
    const middle = [node('left', [node('a'), node('b')]), node('right', [node('c')])];
    const { job } = await flow.add(node('root', middle));
    await waitFor(() => order.includes('root'), 'the root');
    assert.equal(order.at(-1), 'root');
    await waitFor(() => job.getState().then((state) => state === 'completed'), 'its completion');
    const tree = await flow.getFlow({ id: job.id, queueName: 'levels' });
    assert.equal(tree.job.returnvalue, 6); // every job counts itself and what is below it
    assert.equal(tree.children.length, 2);
    const failing = await flow.add(node('never', [node('bad', [], { failParentOnFailure: true })]));
    await waitFor(() => failing.job.getState().then((state) => state === 'failed'), 'the parent to fail');
    assert.ok(!order.includes('never'));
    await worker.close();
}

/*
 * Adds and works until a line comes on stdin, then prints what happened. BullMQ promises at least once, so a job may
 * run twice if the outcome of a step was unknown; none may be forgotten.
 */
async function counts_until_told(here) {
    const options = optionsOf(here);
    const queue = new Queue('work', options);
    const seen = noteEvents(queue, ['error', 'ioredis:close']);
    const runs = new Map();
    const work = async ({ data }) => { runs.set(data.number, (runs.get(data.number) ?? 0) + 1); };
    const worker = new Worker('work', work, { ...options, concurrency: 5, stalledInterval: 1000, lockDuration: 2000 });
    const seenByWorker = noteEvents(worker, ['error', 'ioredis:close']);
    const added = [];
    const refused = [];
    let isEnding = false;
    const produce = async () => {
        for (let number = 0; !isEnding; number++) {
            try {
                await queue.add('job', { number });
                added.push(number);
            } catch (error) {
                refused.push(error.message);
            }
            await sleep(5);
        }
    };
    const producing = produce();
    await waitFor(() => runs.size > 10, 'first jobs');
    console.log('counting');
    await new Promise((resolve) => readline.createInterface({ input: process.stdin }).once('line', resolve));
    isEnding = true;
    await producing;
    const forgotten = () => added.filter((number) => !runs.has(number));
    await waitFor(() => forgotten().length === 0, 'all jobs that were accepted', 15000).catch(() => {});
    const twice = [...runs.values()].filter((times) => times > 1).length;
    console.log(JSON.stringify({ added: added.length, refused, seen, seenByWorker, forgotten: forgotten(), twice }));
}

module.exports = {
    jobs_are_done_exactly_once_delayed_ones_included,
    failed_jobs_are_tried_again_and_results_awaited,
    parent_waits_for_its_children,
    repeatable_jobs_run_again_and_again_until_removed,
    flow_of_several_levels_fails_and_succeeds_as_told,
    counts_until_told,
};
