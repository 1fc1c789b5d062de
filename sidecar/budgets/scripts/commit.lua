-- Put a filled epoch in force. Admission opens when the sources that are known to live have joined.
-- KEYS 4 fence
-- ARGV 1 the new epoch, 3 who holds the fence, 4 run of the server, 5 quiet_ms (open no sooner),
--      6 until_ms (open no later), 7 number of sources to wait for, these, then marks: source, mark
-- Answers 1, or 0 when the fence is lost.
if redis.call('GET', KEYS[4]) ~= ARGV[3] then
  return 0
end
local now = now_ms()
redis.call('DEL', EPOCH, MARKS, DUE)
redis.call('HSET', EPOCH, 'id', epoch, 'run', ARGV[4], 'state', 'joining', 'n', '0',
  'quiet', whole(now + tonumber(ARGV[5])), 'until', whole(now + tonumber(ARGV[6])))
local sources = tonumber(ARGV[7])
for i = 1, sources do
  redis.call('HSET', EPOCH, 'w:' .. ARGV[7 + i], '1')
end
for i = 8 + sources, #ARGV, 2 do
  redis.call('HSET', MARKS, ARGV[i], ARGV[i + 1])
end
redis.call('DEL', KEYS[4])
return 1
