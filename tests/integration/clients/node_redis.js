// SPDX-License-Identifier: BSD-2-Clause
// node-redis as its users use it: a url, and nothing else that Pointsman would need. Version 4 and 5 say some things
// differently; `dialect` holds those.
'use strict';

const assert = require('node:assert/strict');
const { ADD_TWICE, countUntilTold, noteEvents, range, sleep, waitFor } = require('./tools.js');

const DIALECTS = {
    redis4: {
        end: (client) => client.quit(),
        keysOf: (part) => [part],
        fieldsOf: (part) => [part.field],
        membersOf: (part) => [part],
        whenOthersWrite: (client, use) => client.executeIsolated(use),
    },
    redis5: {
        end: (client) => client.close(),
        keysOf: (part) => part,
        fieldsOf: (part) => part.map((entry) => entry.field),
        membersOf: (part) => part,
        whenOthersWrite: (client, use) => use(client),
    },
};
DIALECTS.redis6 = DIALECTS.redis5; // which begins with HELLO 3

module.exports = (name) => {
    const { WatchError, commandOptions, createClient, defineScript } = require(name);
    const dialect = DIALECTS[name];

    // As the manual of node-redis demands, each client has an 'error' listener; here such an event is a failure.
    async function connect(here, options = {}) {
        const client = createClient({ url: `redis://127.0.0.1:${here.port}`, ...options });
        client.on('error', (error) => { throw error; });
        await client.connect();
        return client;
    }

    async function connects_with_default_settings(here) {
        const client = createClient({ url: `redis://127.0.0.1:${here.port}` });
        const seen = noteEvents(client, ['connect', 'ready', 'error', 'reconnecting', 'end']);
        await client.connect();
        assert.equal(await client.ping(), 'PONG');
        assert.equal(await client.set(`${here.prefix}a`, 'x'), 'OK');
        assert.match(await client.info(), /role:master/);
        await dialect.end(client);
        assert.deepEqual(seen, ['connect', 'ready', 'end']);
    }

    // What is asked for in one turn of the event loop is one pipeline.
    async function pipeline_is_answered_in_order_errors_included(here) {
        const client = await connect(here);
        const replies = await Promise.allSettled(range(2000).flatMap((number) => [
            client.set(`${here.prefix}${number}`, String(number)),
            client.get(`${here.prefix}${number}`),
            client.lPush(`${here.prefix}${number}`, 'x'),
        ]));
        for (const number of range(2000)) {
            assert.equal(replies[3 * number].value, 'OK');
            assert.equal(replies[3 * number + 1].value, String(number));
            assert.match(replies[3 * number + 2].reason.message, /^WRONGTYPE/);
        }
    }

    async function multi_exec_is_one_step(here) {
        const client = await connect(here);
        const key = `${here.prefix}n`;
        assert.deepEqual(await client.multi().set(key, 1).incr(key).get(key).exec(), ['OK', 2, '2']);
        await assert.rejects(client.multi().incr(key).addCommand(['SET', key]).exec());
        assert.equal(await client.get(key), '2');
        const many = client.multi();
        range(1000).forEach(() => many.incr(key));
        assert.equal((await many.exec()).at(-1), 1002);
    }

    async function watch_conflict_fails_the_transaction(here) {
        const [one, two] = [await connect(here), await connect(here)];
        const key = `${here.prefix}stock`;
        await one.set(key, 5);
        await dialect.whenOthersWrite(one, async (alone) => {
            await alone.watch(key);
            await two.decr(key);
            await assert.rejects(alone.multi().set(key, 9).exec(), WatchError);
            await alone.watch(key);
            assert.deepEqual(await alone.multi().set(key, 9).exec(), ['OK']);
        });
        assert.equal(await two.get(key), '9');
    }

    async function blocking_pop_gets_what_another_client_pushes(here) {
        const [consumer, producer] = [await connect(here), await connect(here)];
        const key = `${here.prefix}queue`;
        for (const number of range(20)) {
            const popped = consumer.blPop(key, 10);
            await producer.rPush(key, String(number));
            assert.deepEqual({ ...await popped }, { key, element: String(number) });
        }
        assert.equal(await consumer.blPop(key, 0.05), null);
        const popped = consumer.bzPopMin(`${key}z`, 0);
        await producer.zAdd(`${key}z`, { score: 7, value: 'member' });
        assert.deepEqual({ ...await popped }, { key: `${key}z`, value: 'member', score: 7 });
    }

    async function publish_reaches_every_subscriber(here) {
        const [subscriber, publisher] = [await connect(here), await connect(here)];
        const got = [];
        const channels = [`${here.prefix}a`, `${here.prefix}b`];
        await subscriber.subscribe(channels, (message, channel) => got.push([channel, message]));
        await subscriber.pSubscribe(`${here.prefix}*`, (message, channel) => got.push(['pattern', channel, message]));
        await subscriber.ping();
        assert.equal(await publisher.publish(`${here.prefix}a`, 'hello'), 2);
        await waitFor(() => got.length === 2, 'both messages');
        assert.deepEqual(got, [[`${here.prefix}a`, 'hello'], ['pattern', `${here.prefix}a`, 'hello']]);
        await subscriber.unsubscribe(channels);
        await subscriber.pUnsubscribe(`${here.prefix}*`);
        const reply = await subscriber.set(`${here.prefix}after`, 1); // an ordinary connection again
        assert.equal(String(reply), 'OK'); // version 5 gives a Buffer here, with a plain server as well
        assert.equal(await publisher.publish(`${here.prefix}a`, 'nobody'), 0);
    }

    // EVALSHA, and after NOSCRIPT the whole text by EVAL; inside MULTI the text at once.
    async function scripts_are_loaded_when_they_are_missing(here) {
        const addTwice = defineScript({
            NUMBER_OF_KEYS: 1,
            SCRIPT: ADD_TWICE,
            transformArguments: (key, by) => [key, String(by)], // asked for by version 4, the next line by 5
            parseCommand(parser, key, by) { parser.pushKey(key); parser.push(String(by)); },
            transformReply: Number,
        });
        const client = await connect(here, { scripts: { addTwice } });
        const key = `${here.prefix}n`;
        await client.scriptFlush();
        assert.equal(await client.addTwice(key, 5), 10);
        assert.equal(await client.addTwice(key, 5), 20);
        await client.scriptFlush();
        assert.deepEqual(await client.multi().addTwice(key, 1).exec(), [22]);
        await assert.rejects(client.evalSha('0'.repeat(40)), /^Error: NOSCRIPT/);
        await assert.rejects(client.eval("return redis.error_reply('MINE of my own')"), /MINE of my own/);
    }

    async function scans_see_every_member_and_key(here) {
        const client = await connect(here);
        const members = range(5000).map((number) => `member${number}`);
        await client.sAdd(`${here.prefix}set`, members);
        await client.hSet(`${here.prefix}hash`, members.flatMap((member) => [member, 'x']));
        await client.mSet(members.flatMap((member) => [`${here.prefix}key:${member}`, 'x']));
        const collect = async (iterator, itemsOf) => {
            const found = new Set();
            for await (const part of iterator)
                itemsOf(part).forEach((item) => found.add(item));
            return [...found].sort();
        };
        const expected = [...members].sort();
        const inSet = await collect(client.sScanIterator(`${here.prefix}set`, { COUNT: 100 }), dialect.membersOf);
        assert.deepEqual(inSet, expected);
        assert.deepEqual(await collect(client.hScanIterator(`${here.prefix}hash`), dialect.fieldsOf), expected);
        const keys = await collect(client.scanIterator({ MATCH: `${here.prefix}key:*`, COUNT: 200 }), dialect.keysOf);
        assert.deepEqual(keys, expected.map((member) => `${here.prefix}key:${member}`));
    }

    async function databases_are_apart(here) {
        const [third, zero] = [await connect(here, { database: 3 }), await connect(here)];
        const key = `${here.prefix}where`;
        await third.set(key, 'in 3');
        assert.equal(await zero.get(key), null);
        await zero.select(3);
        assert.equal(await zero.get(key), 'in 3');
        await zero.select(0);
        assert.equal(await zero.get(key), null);
        await assert.rejects(third.select(99), /DB index is out of range/);
        assert.equal(await third.get(key), 'in 3');
    }

    async function names_are_seen_in_the_client_list(here) {
        const [worker, other] = [await connect(here, { name: 'my-worker' }), await connect(here)];
        assert.equal(await worker.clientGetName(), 'my-worker');
        assert.equal(await other.clientGetName(), null);
        const mine = (await other.clientList()).filter((client) => client.name === 'my-worker');
        assert.deepEqual(mine.map((client) => client.id), [await worker.clientId()]);
        const info = await worker.clientInfo();
        assert.equal(info.name, 'my-worker');
    }

    async function binary_and_large_values_come_back_the_same(here) {
        const client = await connect(here);
        const value = Buffer.alloc(4 << 20);
        value.forEach((_, index) => { value[index] = (index * 7919) >> 3; });
        await client.set(`${here.prefix}big`, value);
        const back = name === 'redis4'
            ? await client.get(commandOptions({ returnBuffers: true }), `${here.prefix}big`)
            : await client.withTypeMapping({ 36: Buffer }).get(`${here.prefix}big`); // 36 is '$', a bulk string
        assert.ok(value.equals(back));
    }

    async function stream_group_is_read_while_blocked(here) {
        const [reader, writer] = [await connect(here), await connect(here)];
        const key = `${here.prefix}stream`;
        await writer.xGroupCreate(key, 'group', '$', { MKSTREAM: true });
        const read = reader.xReadGroup('group', 'me', { key, id: '>' }, { COUNT: 10, BLOCK: 5000 });
        const id = await writer.xAdd(key, '*', { field: 'value' });
        const [{ messages: [message] }] = await read;
        assert.equal(message.id, id);
        assert.equal(message.message.field, 'value');
        assert.equal(await reader.xAck(key, 'group', id), 1);
        const tail = reader.xRead({ key, id: '$' }, { BLOCK: 5000 });
        await sleep(50); // '$' is the end of the stream when the command arrives
        const next = await writer.xAdd(key, '*', { field: 'next' });
        assert.equal((await tail)[0].messages[0].id, next);
    }

    async function counts_until_told(here) {
        const client = createClient({ url: `redis://127.0.0.1:${here.port}` });
        client.on('error', () => {}); // noted below
        await client.connect();
        const seen = noteEvents(client, ['error', 'reconnecting', 'end', 'connect', 'ready']);
        await countUntilTold(here, (key) => client.incr(key), () => client.clientId(), seen);
    }

    return {
        connects_with_default_settings,
        pipeline_is_answered_in_order_errors_included,
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
};
