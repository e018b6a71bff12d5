<?php
// SPDX-License-Identifier: BSD-2-Clause
// php phpredis.php SCENARIO PORT: the extension redis of PHP as its users use it; status 0 if the scenario held.
declare(strict_types=1);

[, $scenario, $port] = $argv;
$prefix = "phpredis:$scenario:";

function connect(): Redis
{
    global $port;
    $redis = new Redis();
    $redis->connect('127.0.0.1', (int)$port);
    return $redis;
}

function same($expected, $got): void
{
    if ($expected !== $got)
        throw new Exception('expected ' . var_export($expected, true) . ', got ' . var_export($got, true));
}

/* Runs it in a process of its own while the rest goes on; returns what waits for it. */
function beside(callable $work): callable
{
    $pid = pcntl_fork();
    if ($pid === 0) {
        try {
            $work();
        } catch (Throwable $error) {
            fwrite(STDERR, $error . "\n");
            posix_kill(getmypid(), SIGKILL); // no destructors, which would end our parent's connections
        }
        posix_kill(getmypid(), SIGTERM);
    }
    return function () use ($pid): void {
        pcntl_waitpid($pid, $status);
        same(SIGTERM, pcntl_wtermsig($status));
    };
}

$scenarios = [
    'plain_values_and_types' => function (string $key): void {
        $redis = connect();
        same(true, $redis->ping());
        same('hello', $redis->echo('hello'));
        same(true, $redis->set($key, "\0binary\r\n", ['ex' => 100]));
        same("\0binary\r\n", $redis->get($key));
        same(false, $redis->get("{$key}none"));
        $large = str_repeat(random_bytes(1000), 2000);
        same(true, $redis->set("{$key}large", $large));
        same(true, $redis->get("{$key}large") === $large);
        $redis->hMSet("{$key}h", ['a' => '1', 'b' => '2']);
        same(['a' => '1', 'b' => '2'], $redis->hGetAll("{$key}h"));
        $redis->zAdd("{$key}z", 1.5, 'm', 2, 'n');
        same(['m' => 1.5, 'n' => 2.0], $redis->zRange("{$key}z", 0, -1, true));
        $redis->xAdd("{$key}x", '1-1', ['f' => 'v']);
        same(['1-1' => ['f' => 'v']], $redis->xRange("{$key}x", '-', '+'));
        same(Redis::REDIS_STRING, $redis->type($key));
        same(false, $redis->lPush($key, 'x'));
        same('WRONGTYPE Operation against a key holding the wrong kind of value', rtrim($redis->getLastError(), "\0"));
        same('master', $redis->info()['role']);
        same(['maxmemory' => '0'], $redis->config('GET', 'maxmemory'));
        same(true, $redis->client('setname', 'php'));
        same('php', $redis->client('getname'));
    },
    'serialized_and_prefixed_values' => function (string $key): void {
        $redis = connect();
        $redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
        $redis->setOption(Redis::OPT_PREFIX, $key);
        $value = ['n' => 1, 'list' => [1.5, null, 'x']];
        $redis->set('object', $value);
        same($value, $redis->get('object'));
        same(["{$key}object"], $redis->keys('*'));
    },
    'pipelines_and_transactions' => function (string $key): void {
        [$redis, $other] = [connect(), connect()];
        $pipeline = $redis->pipeline();
        for ($number = 0; $number < 1000; $number++)
            $pipeline->set("$key$number", (string)$number)->get("$key$number")->lPush("$key$number", 'x');
        $replies = $pipeline->exec();
        same(3000, count($replies));
        same([true, '999', false], array_slice($replies, -3));
        same([true, 2, '2'], $redis->multi()->set($key, 1)->incr($key)->get($key)->exec());
        $redis->watch($key);
        $other->incr($key);
        same(false, $redis->multi()->set($key, 9)->exec());
        same('3', $redis->get($key));
        $redis->watch($key);
        same([true], $redis->multi()->set($key, 9)->exec());
        $redis->multi()->incr($key);
        $redis->discard();
        same('9', $redis->get($key));
    },
    'blocking_pops' => function (string $key): void {
        $redis = connect();
        $wait = beside(function () use ($key): void {
            $producer = connect();
            for ($number = 0; $number < 20; $number++)
                $producer->rPush($key, (string)$number);
        });
        for ($number = 0; $number < 20; $number++)
            same([$key, (string)$number], $redis->blPop([$key], 10));
        $wait();
        same([], $redis->blPop([$key], 1));
        same(true, $redis->ping());
    },
    'scripts' => function (string $key): void {
        $redis = connect();
        $script = "return redis.call('incrby', KEYS[1], ARGV[1])";
        same(4, $redis->eval($script, [$key, 4], 1));
        $sha = $redis->script('load', $script);
        same(8, $redis->evalSha($sha, [$key, 4], 1));
        same([1, 0], $redis->script('exists', $sha, str_repeat('0', 40)));
        $redis->script('flush');
        same(false, $redis->evalSha($sha, [$key, 4], 1));
        same('NOSCRIPT No matching script. Please use EVAL.', rtrim($redis->getLastError(), "\0"));
    },
    'scans_and_databases' => function (string $key): void {
        $redis = connect();
        for ($number = 0; $number < 1000; $number++)
            $all["$key$number"] = '1';
        $redis->mset($all);
        $redis->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
        $found = [];
        for ($cursor = null; ($names = $redis->scan($cursor, "$key*", 100)) !== false;)
            $found += array_flip($names);
        same(1000, count($found));
        same(true, $redis->select(3));
        same(0, $redis->exists("{$key}1"));
        same(true, $redis->select(0));
        same(1, $redis->exists("{$key}1"));
        same(false, $redis->select(999));
        same(1, $redis->exists("{$key}1"));
    },
    'messages_reach_a_subscriber' => function (string $key): void {
        $redis = connect();
        $redis->setOption(Redis::OPT_READ_TIMEOUT, 10);
        $wait = beside(function () use ($key): void {
            $publisher = connect();
            while ($publisher->publish($key, 'first') === 0)
                usleep(1000);
            same(1, $publisher->publish($key, 'last'));
        });
        $got = [];
        try {
            $redis->subscribe([$key], function (Redis $redis, string $channel, string $message) use (&$got): void {
                $got[] = $message;
                if ($message === 'last')
                    $redis->close(); // unsubscribing does not end the loop of this version
            });
        } catch (RedisException $closed) {
        }
        $wait();
        same(['first', 'last'], $got);
    },
    'persistent_connections' => function (string $key): void {
        global $port;
        for ($round = 0; $round < 20; $round++) {
            $redis = new Redis();
            $redis->pconnect('127.0.0.1', (int)$port, 2.5, 'pool');
            same($round + 1, $redis->incr($key));
            $ids[$redis->client('id')] = true;
            unset($redis);
        }
        same(1, count($ids));
    },
    'sessions' => function (string $key): void {
        global $port;
        ini_set('session.save_handler', 'redis');
        ini_set('session.save_path', "tcp://127.0.0.1:$port?prefix=$key&database=2");
        ini_set('redis.session.locking_enabled', '1');
        ini_set('session.use_cookies', '0');
        ini_set('session.cache_limiter', '');
        session_id('abc');
        for ($visit = 1; $visit <= 3; $visit++) {
            session_start();
            $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
            same($visit, $_SESSION['visits']);
            session_write_close();
        }
        $redis = connect();
        $redis->select(2);
        same('visits|i:3;', $redis->get("{$key}abc"));
        same(0, $redis->exists("{$key}abc_LOCK"));
    },
];

if ($scenario === 'list') {
    echo implode(' ', array_keys($scenarios)), "\n";
    exit(0);
}
try {
    $scenarios[$scenario]($prefix);
} catch (Throwable $error) {
    fwrite(STDERR, $error . "\n");
    exit(1);
}
