-- Let a lease hold at least these totals, or change nothing; said twice, it counts once.
-- A total may take over part of what the source holds in advance (its slice of that counter).
-- KEYS 4 lease, 5 the source's slices, 6.. counters
-- ARGV 3 ttl_ms, 4 '' or 'force' (past the limits: it runs already), 5 number of this message,
--      then for each counter: total, moved from the slice, limit, bucket, bucket width, expiry
-- Answers {1, n, spent, held, total, slice, ...}, a slice of -1 being not looked at;
--         {0, n, index, room, spent, held} of the tightest without room;
--         {-3, n} when the lease ended after this message was sent.
local force = ARGV[4] == 'force'
local wrong = astray(force)
if wrong then
  return wrong
end
local n = tonumber(redis.call('HGET', EPOCH, 'n'))
local state, holds, ended_by = read_lease(KEYS[4])
if state == 't' then
  if tonumber(ARGV[5]) <= ended_by then
    return {-3, n}
  end
  redis.call('DEL', KEYS[4])
  state = nil
end
local count = #KEYS - 5
local slices_state, slices = nil, nil
local moves = false
for i = 1, count do
  moves = moves or ARGV[5 + (i - 1) * 6 + 2] ~= '0'
end
if moves then
  slices_state, slices = read_lease(KEYS[5])
  if slices_state == 'x' then
    uncharge(slices)
    redis.call('HSET', KEYS[5], '!', 'h')
    redis.call('ZADD', DUE, whole(now_ms() + tonumber(ARGV[3])), KEYS[5])
  end
end

local tight_index, tight_room, tight_spent, tight_held = 0, 0, 0, 0
local plan = {}
for i = 1, count do
  local at, key = 5 + (i - 1) * 6, KEYS[5 + i]
  local total, moved, limit, bucket = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 4]
  local exists, spent, held = read_counter(key, bucket)
  local had = holds[key] and holds[key].amount or 0
  local drawn = 0
  if moves and slices[key] then
    drawn = math.min(moved, slices[key].amount)
  end
  local delta = math.max(0, total - had)
  -- An expired lease's holds are among what is spent; either way they take the same room.
  local left = limit - spent - held - delta + drawn
  if left < 0 and delta > 0 and not force then
    local room = math.max(0, left + delta)
    if tight_index == 0 or room < tight_room then
      tight_index, tight_room, tight_spent, tight_held = i, room, spent, held
    end
  end
  plan[i] = {exists = exists, had = had, delta = delta, drawn = drawn, spent = spent, held = held}
end
if tight_index > 0 then
  return {0, n, tight_index, tight_room, tight_spent, tight_held}
end

if state == 'x' then
  uncharge(holds)
end
local answer = {1, wrote()}
for i = 1, count do
  local at, key, step = 5 + (i - 1) * 6, KEYS[5 + i], plan[i]
  local bucket = holds[key] and holds[key].bucket or ARGV[at + 4]
  if not step.exists then
    begin_counter(key, ARGV[at + 6])
  else
    touch(key, ARGV[at + 4], ARGV[at + 6])
    if bucket ~= '0' then
      prune(key, bucket, ARGV[at + 5])
    end
  end
  redis.call('HINCRBY', key, 'h', whole(step.delta - step.drawn))
  redis.call('HSET', KEYS[4], key, whole(step.had + step.delta) .. ':' .. bucket)
  local slice = -1
  if moves then
    slice = slices[key] and slices[key].amount - step.drawn or 0
    if step.drawn > 0 then
      redis.call('HSET', KEYS[5], key, whole(slice) .. ':' .. slices[key].bucket)
    end
  end
  answer[#answer + 1] = step.spent
  answer[#answer + 1] = step.held + step.delta - step.drawn
  answer[#answer + 1] = step.had + step.delta
  answer[#answer + 1] = slice
end
local runs_out = now_ms() + tonumber(ARGV[3])
redis.call('HSET', KEYS[4], '!', 'h', '!e', epoch)
redis.call('PEXPIRE', KEYS[4], whole(tonumber(ARGV[3]) + KEEP_MS))
redis.call('ZADD', DUE, whole(runs_out), KEYS[4])
return answer
