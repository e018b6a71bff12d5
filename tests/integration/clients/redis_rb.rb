# SPDX-License-Identifier: BSD-2-Clause
# ruby redis_rb.rb SCENARIO PORT: redis-rb as its users use it; status 0 if the scenario held.
require "redis"
require "securerandom"

SCENARIO, PORT = ARGV
KEY = "redis_rb:#{SCENARIO}:"

def connect(**options)
  Redis.new(host: "127.0.0.1", port: Integer(PORT), timeout: 20, **options)
end

def same(expected, got)
  raise "expected #{expected.inspect}, got #{got.inspect}" unless expected == got
end

def raises(kind, text)
  yield
rescue kind => error
  raise "another message: #{error.message}" unless error.message.include?(text)
else
  raise "no #{kind}"
end

SCENARIOS = {
  plain_values_and_types: lambda {
    redis = connect(id: "ruby", db: 2)
    same "PONG", redis.ping
    same "OK", redis.set(KEY, "\0binary\r\n", ex: 100)
    same "\0binary\r\n", redis.get(KEY)
    large = SecureRandom.bytes(1000) * 2000
    redis.set("#{KEY}large", large)
    same true, redis.get("#{KEY}large").b == large
    redis.mapped_hmset("#{KEY}h", { "a" => "1", "b" => "2" })
    same({ "a" => "1", "b" => "2" }, redis.hgetall("#{KEY}h"))
    redis.zadd("#{KEY}z", [[1.5, "m"], [Float::INFINITY, "n"]])
    same [["m", 1.5], ["n", Float::INFINITY]], redis.zrange("#{KEY}z", 0, -1, with_scores: true)
    same nil, redis.get("#{KEY}none")
    raises(Redis::CommandError, "WRONGTYPE") { redis.lpush(KEY, "x") }
    same "master", redis.info["role"]
    same "ruby", redis.client(:setname, "ruby") && redis.client(:getname)
    same ["master", 3], [redis.role[0], redis.role.size]
    same false, connect.exists?(KEY) # it is in database 2
  },
  pipelines_and_transactions: lambda {
    redis, other = connect, connect
    replies = redis.pipelined { |p| 1000.times { |n| p.set("#{KEY}#{n}", n); p.get("#{KEY}#{n}") } }
    same 1000.times.flat_map { |n| ["OK", n.to_s] }, replies
    raises(Redis::CommandError, "WRONGTYPE") { redis.pipelined { |p| p.incr("#{KEY}1"); p.lpush("#{KEY}1", 1) } }
    same "2", redis.get("#{KEY}1")
    same ["OK", 2, "2"], redis.multi { |t| t.set(KEY, 1); t.incr(KEY); t.get(KEY) }
    lost = redis.watch(KEY) { other.incr(KEY); redis.multi { |t| t.set(KEY, 9) } }
    same [nil, "3"], [lost, redis.get(KEY)]
    same ["OK"], redis.watch(KEY) { redis.multi { |t| t.set(KEY, 9) } }
    raises(RuntimeError, "changed my mind") { redis.multi { |t| t.incr(KEY); raise "changed my mind" } }
    same "9", redis.get(KEY)
  },
  blocking_pops: lambda {
    redis = connect
    producer = Thread.new { client = connect; 20.times { |n| client.rpush(KEY, n) } }
    same 20.times.map { |n| [KEY, n.to_s] }, 20.times.map { redis.blpop(KEY, timeout: 10) }
    producer.join
    same nil, redis.blpop(KEY, timeout: 0.05)
    same nil, redis.brpoplpush(KEY, "#{KEY}to", timeout: 0.05)
    same "PONG", redis.ping
  },
  scripts: lambda {
    redis = connect
    script = "return redis.call('incrby', KEYS[1], ARGV[1])"
    same 4, redis.eval(script, keys: [KEY], argv: [4])
    sha = redis.script(:load, script)
    same 8, redis.evalsha(sha, [KEY], [4])
    same [true, false], redis.script(:exists, [sha, "0" * 40])
    redis.script(:flush)
    raises(Redis::CommandError, "NOSCRIPT No matching script") { redis.evalsha(sha, [KEY], [4]) }
  },
  scans: lambda {
    redis = connect
    names = 1000.times.map { |n| "#{KEY}#{n}" }
    redis.mset(*names.flat_map { |name| [name, 1] })
    same names.sort, redis.scan_each(match: "#{KEY}*", count: 50).to_a.uniq.sort
    redis.sadd("#{KEY}set", names)
    same names.sort, redis.sscan_each("#{KEY}set").to_a.uniq.sort
  },
  messages_reach_a_subscriber: lambda {
    got = []
    publisher = Thread.new do
      client = connect
      sleep 0.001 while client.publish(KEY, "first").zero?
      client.publish("#{KEY}pattern", "second")
      client.publish(KEY, "last")
    end
    redis = connect
    redis.psubscribe("#{KEY}*") do |on|
      on.pmessage do |_, channel, message|
        got << [channel, message]
        redis.punsubscribe if message == "last"
      end
    end
    publisher.join
    same [[KEY, "first"], ["#{KEY}pattern", "second"], [KEY, "last"]], got
    same "PONG", redis.ping
  },
  stream_groups: lambda {
    redis = connect
    redis.xgroup(:create, KEY, "group", "$", mkstream: true)
    reader = Thread.new { connect.xreadgroup("group", "consumer", KEY, ">", block: 10_000, count: 1) }
    id = redis.xadd(KEY, { "f" => "v" })
    same({ KEY => [[id, { "f" => "v" }]] }, reader.value)
    same 1, redis.xack(KEY, "group", id)
    same 0, redis.xpending(KEY, "group")["size"]
  },
  threads_share_a_connection: lambda {
    redis = connect
    20.times.map { Thread.new { 50.times { redis.incr(KEY) } } }.each(&:join)
    same "1000", redis.get(KEY)
  },
}.freeze

if SCENARIO == "list"
  puts SCENARIOS.keys.join(" ")
else
  SCENARIOS.fetch(SCENARIO.to_sym).call
end
