-- Count settlements of one source, in order and once.
-- KEYS 4 the source's slices, then leases and counters as the items name them
-- ARGV 3 source, 4 after (the last settlement before these), 5 upto (the last of these), then items:
--      lease (an index of KEYS, 0, or -1 for a correction), tombstone_ms, number of the message, number of counters, and for each of them
--      counter (an index of KEYS), amount, bucket, expiry
-- An item without a lease, or whose lease is not known, was admitted from the slices: these are drawn on.
-- A correction was not: it changes what is spent, perhaps to less, and nothing that is held.
-- Answers {1, n, upto, index, slice, ...} for the counters that have a slice;
--         {0, n, mark} when these are counted already, or others are missing before them.
local wrong = astray(true)
if wrong then
  return wrong
end
local mark = tonumber(redis.call('HGET', MARKS, ARGV[3]) or 0)
local after, upto = tonumber(ARGV[4]), tonumber(ARGV[5])
if upto <= mark or after ~= mark then
  return {0, tonumber(redis.call('HGET', EPOCH, 'n')), mark}
end

local slices_state, slices = read_lease(KEYS[4])
if slices_state == 'x' then
  uncharge(slices)
  redis.call('HSET', KEYS[4], '!', 'h')
  -- Nobody may be there to renew it; it runs out again, and soon.
  redis.call('ZADD', DUE, whole(now_ms() + 30000), KEYS[4])
end

local at, touched = 6, {}
while at <= #ARGV do
  local lease, tombstone_ms, message, count = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local known = nil
  if lease == 4 then
    -- The source is over: what it held in advance and had not spent goes back.
    give_back('h', slices)
    end_lease(KEYS[4], tombstone_ms, message)
    slices, touched = {}, {}
  elseif lease > 0 then
    local state, holds = read_lease(KEYS[lease])
    if state == 'h' or state == 'x' then
      known = state
      give_back(state, holds)
    end
    if known or tombstone_ms ~= '0' then
      end_lease(KEYS[lease], tombstone_ms, message)
    end
  end
  for i = 1, count do
    local item = at + 4 + (i - 1) * 4
    local index, amount, bucket = tonumber(ARGV[item]), tonumber(ARGV[item + 1]), ARGV[item + 2]
    local key = KEYS[index]
    if not is_of_this_epoch(key) then
      begin_counter(key, ARGV[item + 3])
    else
      touch(key, '0', ARGV[item + 3])
    end
    if amount ~= 0 then
      spend(key, bucket, amount)
    end
    local slice = slices[key]
    if slice and not known and lease ~= -1 then
      local drawn = math.min(amount, slice.amount)
      redis.call('HINCRBY', key, 'h', whole(-drawn))
      slice.amount = slice.amount - drawn
    end
    if slice then
      touched[index] = slice
    end
  end
  at = at + 4 + count * 4
end

local answer = {1, wrote(), upto}
for index, slice in pairs(touched) do
  redis.call('HSET', KEYS[4], KEYS[index], whole(slice.amount) .. ':' .. slice.bucket)
  answer[#answer + 1] = index
  answer[#answer + 1] = slice.amount
end
redis.call('HSET', MARKS, ARGV[3], ARGV[5])
return answer
