-- Charge leases that ran out: the hold becomes spend, flagged, until a settlement corrects it.
-- ARGV 3 how many at most
-- Answers {1, n, how many}.
local wrong = astray(false)
if wrong then
  return wrong
end
local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', whole(now_ms()), 'LIMIT', 0, ARGV[3])
for _, key in ipairs(due) do
  local state, holds = read_lease(key)
  if state == 'h' then
    charge(holds)
    redis.call('HSET', key, '!', 'x')
  end
  redis.call('ZREM', DUE, key)
end
if #due == 0 then
  return {1, tonumber(redis.call('HGET', EPOCH, 'n')), 0}
end
return {1, wrote(), #due}
