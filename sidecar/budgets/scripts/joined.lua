-- A source has made its leases known again and sent all it had to; see whether all have.
-- ARGV 3 source
-- Answers {1, n, state}.
local wrong = astray(true)
if wrong then
  return wrong
end
redis.call('HDEL', EPOCH, 'w:' .. ARGV[3])
local flat = redis.call('HGETALL', EPOCH)
local said, waiting = {}, 0
for i = 1, #flat, 2 do
  said[flat[i]] = flat[i + 1]
  if string.sub(flat[i], 1, 2) == 'w:' then
    waiting = waiting + 1
  end
end
local now = now_ms()
if said.state == 'joining' and now >= tonumber(said.quiet) and (waiting == 0 or now >= tonumber(said['until'])) then
  redis.call('HSET', EPOCH, 'state', 'open')
  said.state = 'open'
end
return {1, tonumber(said.n), said.state}
