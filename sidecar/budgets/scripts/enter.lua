-- What a source finds when it comes: the epoch, and how far it is counted there itself.
-- KEYS 4 peers, 5 the source's slices
-- ARGV 3 source
-- Answers {id, run, state, n, mark, counter, slice, ...}; id is empty where there is no epoch.
local said = redis.call('HMGET', EPOCH, 'id', 'run', 'state', 'n')
if not said[1] then
  return {'', '', '', 0, 0}
end
epoch = said[1]
redis.call('HSET', KEYS[4], ARGV[3], whole(now_ms()))
local mark = tonumber(redis.call('HGET', MARKS, ARGV[3]) or 0)
local answer = {said[1], said[2], said[3], tonumber(said[4]), mark}
local state, slices = read_lease(KEYS[5])
for key, slice in pairs(slices) do
  answer[#answer + 1] = key
  answer[#answer + 1] = slice.amount
end
return answer
