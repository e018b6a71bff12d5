// SPDX-License-Identifier: BSD-2-Clause
// Valkey GLIDE: its core is a library of its own, which begins with HELLO 3 and CLIENT SETINFO.
'use strict';

const assert = require('node:assert/strict');
const { Batch, GlideClient, ProtocolVersion, Script } = require('@valkey/valkey-glide');
const { range, waitFor } = require('./tools.js');

const connect = (here, options = {}) => GlideClient.createClient(
    { addresses: [{ host: '127.0.0.1', port: here.port }], requestTimeout: 10000, ...options },
);

async function both_protocols_give_the_same_values(here) {
    for (const protocol of [ProtocolVersion.RESP2, ProtocolVersion.RESP3]) {
        const client = await connect(here, { protocol, clientName: 'glide', databaseId: 3 });
        const key = `${here.prefix}${protocol}`;
        assert.equal(await client.clientGetName(), 'glide');
        assert.equal(await client.set(key, 'x'), 'OK');
        assert.equal(await client.get(key), 'x');
        await client.hset(`${key}h`, { a: '1', b: '2' });
        assert.deepEqual((await client.hgetall(`${key}h`)).map(({ field, value }) => [field, value]), [['a', '1'], ['b', '2']]);
        await client.zadd(`${key}z`, { m: 1.5 });
        assert.equal(await client.zscore(`${key}z`, 'm'), 1.5);
        assert.equal(await client.get(`${key}none`), null);
        assert.match(await client.info(), /role:master/);
        client.close();
    }
}

async function pipelines_and_transactions(here) {
    const client = await connect(here);
    const key = `${here.prefix}n`;
    const pipeline = new Batch(false);
    for (const number of range(500))
        pipeline.set(`${key}${number}`, String(number)).get(`${key}${number}`);
    const replies = await client.exec(pipeline, true);
    assert.deepEqual(replies, range(500).flatMap((number) => ['OK', String(number)]));
    assert.deepEqual(await client.exec(new Batch(true).set(key, '1').incr(key).get(key), true), ['OK', 2, '2']);
    const other = await connect(here);
    await client.watch([key]);
    await other.incr(key);
    assert.equal(await client.exec(new Batch(true).set(key, '9'), true), null);
    assert.equal(await client.get(key), '3');
}

async function scripts_blocking_pops_and_scans(here) {
    const [client, other] = [await connect(here), await connect(here)];
    const key = `${here.prefix}k`;
    const script = new Script("return redis.call('incrby', KEYS[1], ARGV[1])");
    assert.equal(await client.invokeScript(script, { keys: [key], args: ['4'] }), 4);
    await client.scriptFlush();
    assert.equal(await client.invokeScript(script, { keys: [key], args: ['4'] }), 8);
    for (const number of range(10)) {
        const popped = client.blpop([`${key}q`], 10);
        await other.rpush(`${key}q`, [String(number)]);
        assert.deepEqual(await popped, [`${key}q`, String(number)]);
    }
    assert.equal(await client.blpop([`${key}q`], 0.05), null);
    await client.mset(Object.fromEntries(range(300).map((number) => [`${key}scan${number}`, '1'])));
    const found = new Set();
    for (let cursor = '0', names; ;) {
        [cursor, names] = await client.scan(cursor, { match: `${key}scan*`, count: 50 });
        names.forEach((name) => found.add(name));
        if (cursor === '0')
            break;
    }
    assert.equal(found.size, 300);
}

async function messages_reach_a_subscriber(here) {
    const got = [];
    const subscriber = await connect(here, {
        pubsubSubscriptions: {
            channelsAndPatterns: { 0: new Set([`${here.prefix}news`]), 1: new Set([`${here.prefix}p*`]) },
            callback: ({ message, channel, pattern }) => got.push([channel, pattern ?? null, message]),
        },
    });
    const publisher = await connect(here);
    await publisher.publish('one', `${here.prefix}news`);
    await publisher.publish('two', `${here.prefix}pets`);
    await waitFor(() => got.length === 2, 'both messages');
    assert.deepEqual(got.map(([, , message]) => message), ['one', 'two']);
    assert.equal(await subscriber.ping(), 'PONG'); // the connection serves both in RESP3
}

module.exports = {
    both_protocols_give_the_same_values,
    pipelines_and_transactions,
    scripts_blocking_pops_and_scans,
    messages_reach_a_subscriber,
};
