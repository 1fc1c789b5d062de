-- Let leases hold for longer, and say that their source lives.
-- KEYS 4 peers, 5.. leases
-- ARGV 3 source, 4 ttl_ms, 5 how long a silent source counts as living (ms)
-- Answers {1, n, state, peer, ...}.
local wrong = astray(true)
if wrong then
  return wrong
end
local now = now_ms()
redis.call('HSET', KEYS[4], ARGV[3], whole(now))
local answer = {1, tonumber(redis.call('HGET', EPOCH, 'n')), redis.call('HGET', EPOCH, 'state')}
local peers = redis.call('HGETALL', KEYS[4])
for i = 1, #peers, 2 do
  if tonumber(peers[i + 1]) + tonumber(ARGV[5]) < now then
    redis.call('HDEL', KEYS[4], peers[i])
  elseif peers[i] ~= ARGV[3] then
    answer[#answer + 1] = peers[i]
  end
end
for i = 5, #KEYS do
  local state = redis.call('HGET', KEYS[i], '!')
  if state == 'h' or state == 'x' then
    local known, holds = read_lease(KEYS[i])
    if known == 'x' then
      uncharge(holds)
      redis.call('HSET', KEYS[i], '!', 'h')
      answer[2] = wrote()
    end
    if known then
      redis.call('ZADD', DUE, whole(now + tonumber(ARGV[4])), KEYS[i])
      redis.call('PEXPIRE', KEYS[i], whole(tonumber(ARGV[4]) + KEEP_MS))
    end
  end
end
return answer
