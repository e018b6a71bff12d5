// SPDX-License-Identifier: BSD-2-Clause
// ioredis as its users use it: a port, and nothing else that Pointsman would need. ioredis6.js and iovalkey.js, a fork
// with the same interface, run these scenarios as well.
'use strict';

const assert = require('node:assert/strict');
const library = ['ioredis6', 'iovalkey'].includes(process.argv[2]) ? process.argv[2] : 'ioredis';
const { Redis } = require(library);
const { ADD_TWICE, countUntilTold, noteEvents, range, sleep, waitFor } = require('./tools.js');

const connect = (here, options = {}) => new Redis(here.port, '127.0.0.1', options);

async function connects_with_default_settings(here) {
    const redis = connect(here);
    const seen = noteEvents(redis, ['connect', 'ready', 'error', 'close', 'reconnecting', 'end']);
    assert.equal(await redis.ping(), 'PONG');
    assert.equal(await redis.set(`${here.prefix}a`, 'x'), 'OK');
    assert.match(await redis.info(), /role:master/);
    assert.deepEqual(seen, ['connect', 'ready']); // its ready check has read INFO
    assert.equal(await redis.quit(), 'OK');
    await waitFor(() => seen.includes('end'), 'the connection to end');
    assert.deepEqual(seen, ['connect', 'ready', 'close', 'end']);
}

async function pipeline_is_answered_in_order_errors_included(here) {
    const redis = connect(here);
    const pipeline = redis.pipeline();
    for (const number of range(2000)) {
        pipeline.set(`${here.prefix}${number}`, number);
        pipeline.get(`${here.prefix}${number}`);
        pipeline.lpush(`${here.prefix}${number}`, 'x');
    }
    const replies = await pipeline.exec();
    assert.equal(replies.length, 6000);
    for (const number of range(2000)) {
        assert.deepEqual(replies[3 * number], [null, 'OK']);
        assert.deepEqual(replies[3 * number + 1], [null, String(number)]);
        assert.match(replies[3 * number + 2][0].message, /^WRONGTYPE/);
    }
}

async function automatic_pipelines_answer_each_caller(here) {
    const redis = connect(here, { enableAutoPipelining: true });
    await Promise.all(range(1000).map((number) => redis.set(`${here.prefix}${number}`, number)));
    const values = await Promise.all(range(1000).map((number) => redis.get(`${here.prefix}${number}`)));
    assert.deepEqual(values, range(1000).map(String));
}

async function multi_exec_is_one_step(here) {
    const redis = connect(here);
    const key = `${here.prefix}n`;
    assert.deepEqual(await redis.multi().set(key, 1).incr(key).get(key).exec(), [[null, 'OK'], [null, 2], [null, '2']]);
    await assert.rejects(redis.multi().incr(key).set(key).exec(), /EXECABORT/);
    await redis.multi({ pipeline: false });
    assert.equal(await redis.incr(key), 'QUEUED');
    assert.equal(await redis.discard(), 'OK');
    assert.equal(await redis.get(key), '2');
}

async function watch_conflict_fails_the_transaction(here) {
    const [one, two] = [connect(here), connect(here)];
    const key = `${here.prefix}stock`;
    await one.set(key, 5);
    await one.watch(key);
    await two.decr(key);
    assert.equal(await one.multi().set(key, 9).exec(), null);
    await one.watch(key);
    assert.deepEqual(await one.multi().set(key, 9).exec(), [[null, 'OK']]);
    assert.equal(await two.get(key), '9');
}

async function blocking_pop_gets_what_another_client_pushes(here) {
    const [consumer, producer] = [connect(here), connect(here)];
    const key = `${here.prefix}queue`;
    for (const number of range(20)) {
        const popped = consumer.blpop(key, 10);
        await producer.rpush(key, number);
        assert.deepEqual(await popped, [key, String(number)]);
    }
    assert.equal(await consumer.blpop(key, 0.05), null);
    const popped = consumer.bzpopmin(`${key}z`, 0);
    await producer.zadd(`${key}z`, 7, 'member');
    assert.deepEqual(await popped, [`${key}z`, 'member', '7']);
}

async function publish_reaches_every_subscriber(here) {
    const [subscriber, publisher] = [connect(here), connect(here)];
    const got = [];
    subscriber.on('message', (channel, message) => got.push([channel, message]));
    subscriber.on('pmessage', (pattern, channel, message) => got.push([pattern, channel, message]));
    assert.equal(await subscriber.subscribe(`${here.prefix}a`, `${here.prefix}b`), 2);
    assert.equal(await subscriber.psubscribe(`${here.prefix}*`), 3);
    assert.deepEqual(await subscriber.ping(), library === 'ioredis6' ? 'PONG' : ['pong', '']); // RESP3, RESP2
    assert.equal(await publisher.publish(`${here.prefix}a`, 'hello'), 2);
    await waitFor(() => got.length === 2, 'both messages');
    assert.deepEqual(got, [[`${here.prefix}a`, 'hello'], [`${here.prefix}*`, `${here.prefix}a`, 'hello']]);
    assert.equal(await subscriber.unsubscribe(`${here.prefix}a`, `${here.prefix}b`), 1);
    assert.equal(await subscriber.punsubscribe(`${here.prefix}*`), 0);
    assert.equal(await subscriber.set(`${here.prefix}after`, 1), 'OK'); // an ordinary connection again
    assert.equal(await publisher.publish(`${here.prefix}a`, 'nobody'), 0);
}

// ioredis sends EVALSHA, and after NOSCRIPT the whole text by EVAL, also for one command of a pipeline.
async function scripts_are_loaded_when_they_are_missing(here) {
    const redis = connect(here);
    redis.defineCommand('addTwice', { numberOfKeys: 1, lua: ADD_TWICE });
    const key = `${here.prefix}n`;
    await redis.script('FLUSH');
    assert.equal(await redis.addTwice(key, 5), 10);
    assert.equal(await redis.addTwice(key, 5), 20);
    await redis.script('FLUSH');
    assert.deepEqual(await redis.pipeline().addTwice(key, 1).exec(), [[null, 22]]);
    assert.deepEqual(await redis.pipeline().addTwice(key, 1).get(key).exec(), [[null, 24], [null, '24']]);
    assert.deepEqual(await redis.multi().addTwice(key, 1).exec(), [[null, 26]]);
    await assert.rejects(redis.evalsha('0'.repeat(40), 0), /^ReplyError: NOSCRIPT/);
    await assert.rejects(redis.eval("return redis.error_reply('MINE of my own')", 0), /MINE of my own/);
}

async function scans_see_every_member_and_key(here) {
    const redis = connect(here);
    const members = range(5000).map((number) => `member${number}`);
    await redis.sadd(`${here.prefix}set`, ...members);
    await redis.hset(`${here.prefix}hash`, ...members.flatMap((member) => [member, member.length]));
    await redis.zadd(`${here.prefix}zset`, ...members.flatMap((member, number) => [number, member]));
    await redis.mset(...members.flatMap((member) => [`${here.prefix}key:${member}`, 1]));
    const collect = async (stream, step = 1) => {
        const found = new Set();
        for await (const part of stream)
            part.forEach((item, index) => index % step || found.add(item));
        return [...found].sort();
    };
    const expected = [...members].sort();
    assert.deepEqual(await collect(redis.sscanStream(`${here.prefix}set`, { count: 100 })), expected);
    assert.deepEqual(await collect(redis.hscanStream(`${here.prefix}hash`), 2), expected);
    assert.deepEqual(await collect(redis.zscanStream(`${here.prefix}zset`), 2), expected);
    const keys = await collect(redis.scanStream({ match: `${here.prefix}key:*`, count: 200 }));
    assert.deepEqual(keys, expected.map((member) => `${here.prefix}key:${member}`));
}

async function databases_are_apart(here) {
    const [third, zero] = [connect(here, { db: 3 }), connect(here)];
    const key = `${here.prefix}where`;
    await third.set(key, 'in 3');
    assert.equal(await zero.get(key), null);
    await zero.select(3);
    assert.equal(await zero.get(key), 'in 3');
    assert.deepEqual(await zero.multi().select(0).get(key).exec(), [[null, 'OK'], [null, null]]);
    assert.equal(await zero.get(key), null);
    assert.equal(await third.get(key), 'in 3');
    await assert.rejects(third.select(99), /DB index is out of range/);
    assert.equal(await third.get(key), 'in 3');
}

async function names_are_seen_in_the_client_list(here) {
    const [worker, other] = [connect(here, { connectionName: 'my-worker' }), connect(here)];
    assert.equal(await worker.client('GETNAME'), 'my-worker');
    assert.equal(await other.client('GETNAME'), null);
    const lines = (await other.client('LIST')).trim().split('\n');
    const mine = lines.filter((line) => / name=my-worker /.test(line));
    assert.equal(mine.length, 1);
    assert.match(mine[0], new RegExp(`id=${await worker.client('ID')} `));
    assert.match(mine[0], library === 'iovalkey' ? /lib-name= / : /lib-name=ioredis/); // it says none
}

async function binary_and_large_values_come_back_the_same(here) {
    const redis = connect(here);
    const value = Buffer.alloc(4 << 20);
    value.forEach((_, index) => { value[index] = (index * 7919) >> 3; });
    await redis.set(`${here.prefix}big`, value);
    assert.ok(value.equals(await redis.getBuffer(`${here.prefix}big`)));
    const every = Buffer.from(range(256));
    await redis.hset(`${here.prefix}hash`, every, every);
    assert.deepEqual(await redis.hgetBuffer(`${here.prefix}hash`, every), every);
}

async function stream_group_is_read_while_blocked(here) {
    const [reader, writer] = [connect(here), connect(here)];
    const key = `${here.prefix}stream`;
    await writer.xgroup('CREATE', key, 'group', '$', 'MKSTREAM');
    const read = reader.xreadgroup('GROUP', 'group', 'me', 'COUNT', 10, 'BLOCK', 5000, 'STREAMS', key, '>');
    const id = await writer.xadd(key, '*', 'field', 'value');
    assert.deepEqual(await read, [[key, [[id, ['field', 'value']]]]]);
    assert.equal(await reader.xack(key, 'group', id), 1);
    const tail = reader.xread('BLOCK', 5000, 'STREAMS', key, '$');
    await sleep(50); // '$' is the end of the stream when the command arrives
    const next = await writer.xadd(key, '*', 'field', 'next');
    assert.deepEqual(await tail, [[key, [[next, ['field', 'next']]]]]);
}

async function counts_until_told(here) {
    const redis = connect(here);
    await redis.ping();
    const seen = noteEvents(redis, ['error', 'close', 'reconnecting', 'end', 'connect', 'ready']);
    await countUntilTold(here, (key) => redis.incr(key), () => redis.client('ID'), seen);
}

module.exports = {
    connects_with_default_settings,
    pipeline_is_answered_in_order_errors_included,
    automatic_pipelines_answer_each_caller,
    multi_exec_is_one_step,
    watch_conflict_fails_the_transaction,
    blocking_pop_gets_what_another_client_pushes,
    publish_reaches_every_subscriber,
    scripts_are_loaded_when_they_are_missing,
    scans_see_every_member_and_key,
    databases_are_apart,
    names_are_seen_in_the_client_list,
    binary_and_large_values_come_back_the_same,
    stream_group_is_read_while_blocked,
    counts_until_told,
};
