// SPDX-License-Identifier: BSD-2-Clause
// Clients that only know how to talk to a Redis Cluster, or only ask Sentinels, at the addresses of Pointsman that are
// `as cluster` and `as sentinel`. Each scenario is named after its library and after what that takes us for.
'use strict';

const assert = require('node:assert/strict');
const { ADD_TWICE, countUntilTold, noteEvents, range, sleep, waitFor } = require('./tools.js');

const MASTER_NAME = 'mymaster';
const scenarios = {};

// ---- ioredis ----

const clusterOf = (library, here, options = {}) =>
    new (require(library).Cluster)([{ host: '127.0.0.1', port: here.port }], options);

const behindSentinel = (library, here, options = {}) =>
    new (require(library).Redis)({ sentinels: [{ host: '127.0.0.1', port: here.port }], name: MASTER_NAME, ...options });

async function useIoredisCluster(library, here) {
    const cluster = clusterOf(library, here);
    const seen = noteEvents(cluster, ['error', '-node', 'node error', 'close', 'reconnecting', 'end']);
    const keys = range(200).map((number) => `${here.prefix}${number}`);
    await Promise.all(keys.map((key) => cluster.set(key, key)));
    assert.deepEqual(await Promise.all(keys.map((key) => cluster.get(key))), keys);
    assert.equal(cluster.nodes('master').length, 2); // proxy.peers
    await cluster.mset(`{${here.prefix}}a`, 1, `{${here.prefix}}b`, 2);
    assert.deepEqual(await cluster.mget(`{${here.prefix}}a`, `{${here.prefix}}b`), ['1', '2']);
    const key = `${here.prefix}n`;
    assert.deepEqual(await cluster.multi().set(key, 1).incr(key).exec(), [[null, 'OK'], [null, 2]]);
    const replies = await cluster.pipeline().incr(key).lpush(key, 'x').incr(key).exec();
    assert.deepEqual([replies[0], replies[2]], [[null, 3], [null, 4]]);
    assert.match(replies[1][0].message, /^WRONGTYPE/);
    cluster.defineCommand('addTwice', { numberOfKeys: 1, lua: ADD_TWICE });
    assert.equal(await cluster.addTwice(key, 5), 14);
    const got = [];
    const subscriber = clusterOf(library, here);
    subscriber.on('message', (channel, message) => got.push([channel, message]));
    await subscriber.subscribe(`${here.prefix}channel`);
    await cluster.publish(`${here.prefix}channel`, 'hello');
    await waitFor(() => got.length === 1, 'the message');
    assert.deepEqual(got, [[`${here.prefix}channel`, 'hello']]);
    assert.deepEqual(seen, []);
}

async function scaleReads(library, here) {
    const cluster = clusterOf(library, here, { scaleReads: 'slave' }); // begins with READONLY; there are no replicas
    await cluster.set(`${here.prefix}a`, 'x');
    assert.equal(await cluster.get(`${here.prefix}a`), 'x');
}

async function useSentinels(library, here) {
    const redis = behindSentinel(library, here);
    const seen = noteEvents(redis, ['error', 'close', 'reconnecting', 'end']);
    const key = `${here.prefix}a`;
    assert.equal(await redis.set(key, 'x'), 'OK');
    assert.equal(await redis.get(key), 'x');
    assert.equal((await redis.role())[0], 'master');
    const replica = behindSentinel(library, here, { role: 'slave' });
    assert.equal((await replica.role())[0], 'slave');
    await waitFor(async () => (await replica.get(key)) === 'x', 'the replica to have it');
    await assert.rejects(replica.set(key, 'y'), /^ReplyError: READONLY/);
    assert.deepEqual(seen, []);
}

async function followFailovers(library, here) {
    const redis = behindSentinel(library, here, { failoverDetector: true }); // subscribes to +switch-master
    const seen = noteEvents(redis, ['error', 'close', 'reconnecting', 'end']);
    assert.equal(await redis.set(`${here.prefix}a`, 'x'), 'OK');
    await sleep(300);
    assert.deepEqual(seen, []);
}

for (const library of ['ioredis', 'ioredis6']) {
    scenarios[`${library}_cluster`] = (here) => useIoredisCluster(library, here);
    scenarios[`${library}_cluster_reads_from_replicas`] = (here) => scaleReads(library, here);
    scenarios[`${library}_sentinels`] = (here) => useSentinels(library, here);
    scenarios[`${library}_sentinels_followed`] = (here) => followFailovers(library, here);
}

scenarios.ioredis_cluster_counts = async (here) => {
    const cluster = clusterOf('ioredis', here);
    const seen = noteEvents(cluster, ['error', '-node', 'node error', 'close', 'reconnecting', 'end']);
    await countUntilTold(here, (key) => cluster.incr(key), async () => 0, seen);
};

scenarios.ioredis_sentinels_count = async (here) => {
    const redis = behindSentinel('ioredis', here);
    const seen = noteEvents(redis, ['error', 'close', 'reconnecting', 'end']);
    await countUntilTold(here, (key) => redis.incr(key), () => redis.client('ID'), seen);
};

// ---- node-redis ----

async function createCluster(library, here, options = {}) {
    const cluster = require(library).createCluster({
        rootNodes: [{ url: `redis://127.0.0.1:${here.port}` }], ...options,
    });
    cluster.on('error', (error) => { throw error; });
    await cluster.connect();
    return cluster;
}

async function useNodeRedisCluster(library, here) {
    const cluster = await createCluster(library, here);
    const keys = range(200).map((number) => `${here.prefix}${number}`);
    await Promise.all(keys.map((key) => cluster.set(key, key)));
    assert.deepEqual(await Promise.all(keys.map((key) => cluster.get(key))), keys);
    assert.equal(cluster.masters.length, 2); // proxy.peers
    const key = `${here.prefix}n`;
    assert.deepEqual(await cluster.multi().set(key, '1').incr(key).exec(), ['OK', 2]);
    assert.equal(await cluster.eval(ADD_TWICE, { keys: [key], arguments: ['5'] }), 12);
    const got = [];
    await cluster.subscribe(`${here.prefix}channel`, (message) => got.push(message));
    await cluster.publish(`${here.prefix}channel`, 'hello');
    await waitFor(() => got.length === 1, 'the message');
    assert.deepEqual(got, ['hello']);
}

async function readFromReplicas(library, here) {
    const cluster = await createCluster(library, here, { useReplicas: true });
    await cluster.set(`${here.prefix}a`, 'x');
    assert.equal(await cluster.get(`${here.prefix}a`), 'x');
}

async function useNodeRedisSentinel(library, here) {
    const sentinel = require(library).createSentinel({
        name: MASTER_NAME, sentinelRootNodes: [{ host: '127.0.0.1', port: here.port }], replicaPoolSize: 1,
    });
    sentinel.on('error', (error) => { throw error; });
    await sentinel.connect();
    const key = `${here.prefix}a`;
    assert.equal(await sentinel.set(key, 'x'), 'OK');
    await waitFor(async () => (await sentinel.get(key)) === 'x', 'the replica to have it'); // where reads go
    assert.deepEqual(await sentinel.multi().set(key, '1').incr(key).exec(), ['OK', 2]);
    const got = [];
    await sentinel.subscribe(`${here.prefix}channel`, (message) => got.push(message));
    await sentinel.use((master) => master.publish(`${here.prefix}channel`, 'hello')); // else it goes to a replica
    await waitFor(() => got.length === 1, 'the message');
}

for (const library of ['redis4', 'redis5', 'redis6']) {
    scenarios[`${library}_cluster`] = (here) => useNodeRedisCluster(library, here);
    scenarios[`${library}_cluster_reads_from_replicas`] = (here) => readFromReplicas(library, here);
}
for (const library of ['redis5', 'redis6']) // 4 has no createSentinel
    scenarios[`${library}_sentinel`] = (here) => useNodeRedisSentinel(library, here);

scenarios.redis5_cluster_counts = async (here) => {
    const cluster = await createCluster('redis5', here);
    const seen = noteEvents(cluster, ['error', 'node-error', 'node-disconnect', 'node-reconnecting']);
    await countUntilTold(here, (key) => cluster.incr(key), async () => 0, seen);
};

module.exports = scenarios;
