-- What the scripts of the shared credit store have in common; put before each of them.
--
-- All keys of one call carry one hash tag, that of the tenant, so they lie in one slot:
--   epoch   hash: id, run (of the server), state (joining, open), n (writes so far), quiet and
--           until (ms), w:<source> (a source that has not joined yet)
--   marks   hash: source -> how far its settlements are counted
--   due     sorted set: lease key -> when it runs out (ms)
--   peers   hash: source -> when it was last here (ms)
--   lease   hash: '!' (h held, x expired and charged, t ended: a late message must find it),
--           '!e' (epoch), '!m' (of a lease that ended: number of the message that ended it),
--           counter key -> 'amount:bucket'
--   counter hash: e (epoch), s (spent), h (held), u (unsettled, part of spent),
--           b<number> (spent in that bucket, for rolling windows, in place of s)
--
-- A counter or lease of another epoch counts as absent. A call begins with the caller's epoch and the
-- highest n that it has seen: a server that lost writes is told by a missing or other epoch, or by
-- an n that went backwards. Lua's numbers are doubles, exact to 2^53; limits stay below.
local EPOCH, MARKS, DUE = KEYS[1], KEYS[2], KEYS[3]
local BUCKETS, KEEP_MS = 24, 40 * 86400 * 1000
local epoch = ARGV[1]

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Why the caller may not be answered; nil when it may.
local function astray(joining)
  local said = redis.call('HMGET', EPOCH, 'id', 'state', 'n')
  if said[1] ~= epoch or (said[2] ~= 'open' and not joining) then
    return {-1, 0}
  end
  if tonumber(said[3]) < tonumber(ARGV[2]) then
    return {-2, tonumber(said[3])}
  end
  return nil
end

local function wrote()
  return redis.call('HINCRBY', EPOCH, 'n', 1)
end

-- A script that fails is not undone, so nothing may fail after its first write: minus zero would.
local function whole(number)
  return string.format('%.0f', number + 0)
end

local function read_counter(key, bucket)
  if bucket == '0' then
    local said = redis.call('HMGET', key, 'e', 's', 'h', 'u')
    if said[1] ~= epoch then
      return false, 0, 0, 0
    end
    return true, tonumber(said[2] or 0), tonumber(said[3] or 0), tonumber(said[4] or 0)
  end
  local flat = redis.call('HGETALL', key)
  local first, spent, held, unsettled, same = tonumber(bucket) - BUCKETS, 0, 0, 0, false
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    if name == 'e' then
      same = value == epoch
    elseif name == 'h' then
      held = tonumber(value)
    elseif name == 'u' then
      unsettled = tonumber(value)
    elseif string.sub(name, 1, 1) == 'b' and tonumber(string.sub(name, 2)) > first then
      spent = spent + tonumber(value)
    end
  end
  if not same then
    return false, 0, 0, 0
  end
  return true, spent, held, unsettled
end

-- Keep a counter as long as it may be needed: until then, or so long from now where expire_ms is below
-- zero, or for ever where it is zero.
local function keep_until(key, expire_ms)
  if string.sub(expire_ms, 1, 1) == '-' then
    redis.call('PEXPIRE', key, string.sub(expire_ms, 2))
  elseif expire_ms ~= '0' then
    -- Never at once: a server whose clock is far ahead would forget a counter as it is begun.
    redis.call('PEXPIREAT', key, whole(math.max(tonumber(expire_ms), now_ms() + 86400000)))
  end
end

-- As it is used: fixed windows keep the end that they were begun with.
local function touch(key, bucket, expire_ms)
  if bucket ~= '0' or string.sub(expire_ms, 1, 1) == '-' then
    keep_until(key, expire_ms)
  end
end

-- Begin a counter in this epoch; what another epoch left of it goes.
local function begin_counter(key, expire_ms)
  redis.call('DEL', key)
  redis.call('HSET', key, 'e', epoch)
  keep_until(key, expire_ms)
end

local function is_of_this_epoch(key)
  return redis.call('HGET', key, 'e') == epoch
end

-- Old buckets go when a new one begins; by the server's clock too, lest one that runs ahead take them.
local function prune(key, bucket, width_us)
  if redis.call('HLEN', key) > 6 * BUCKETS then
    local present = math.floor(now_ms() * 1000 / tonumber(width_us))
    local first = math.min(tonumber(bucket), present + BUCKETS) - 4 * BUCKETS
    for _, name in ipairs(redis.call('HKEYS', key)) do
      if string.sub(name, 1, 1) == 'b' and tonumber(string.sub(name, 2)) < first then
        redis.call('HDEL', key, name)
      end
    end
  end
end

local function spend(key, bucket, amount)
  if bucket == '0' then
    redis.call('HINCRBY', key, 's', whole(amount))
  else
    redis.call('HINCRBY', key, 'b' .. bucket, whole(amount))
  end
end

local function read_lease(key)
  local flat = redis.call('HGETALL', key)
  local state, same, holds, message = nil, false, {}, 0
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    if name == '!' then
      state = value
    elseif name == '!m' then
      message = tonumber(value)
    elseif name == '!e' then
      same = value == epoch
    else
      local amount, bucket = string.match(value, '^(%d+):(%d+)$')
      holds[name] = {amount = tonumber(amount), bucket = bucket}
    end
  end
  if state and not same then
    redis.call('DEL', key)
    return nil, {}, 0
  end
  return state, holds, message
end

-- What an expired lease was charged is held again.
local function uncharge(holds)
  for key, hold in pairs(holds) do
    if is_of_this_epoch(key) then
      spend(key, hold.bucket, -hold.amount)
      redis.call('HINCRBY', key, 'u', whole(-hold.amount))
      redis.call('HINCRBY', key, 'h', whole(hold.amount))
    end
  end
end

local function charge(holds)
  for key, hold in pairs(holds) do
    if is_of_this_epoch(key) then
      redis.call('HINCRBY', key, 'h', whole(-hold.amount))
      spend(key, hold.bucket, hold.amount)
      redis.call('HINCRBY', key, 'u', whole(hold.amount))
    end
  end
end

local function give_back(state, holds)
  if state == 'x' then
    uncharge(holds)
  end
  for key, hold in pairs(holds) do
    if is_of_this_epoch(key) then
      redis.call('HINCRBY', key, 'h', whole(-hold.amount))
    end
  end
end

-- With a tombstone, messages about the lease that were sent before this one find that it has ended.
local function end_lease(key, tombstone_ms, message)
  redis.call('DEL', key)
  redis.call('ZREM', DUE, key)
  if tombstone_ms ~= '0' then
    redis.call('HSET', key, '!', 't', '!e', epoch, '!m', message)
    redis.call('PEXPIRE', key, tombstone_ms)
  end
end
