-- Say what is in force to the hash of directives, all at once, and read what it has then.
-- KEYS 1 the hash
-- ARGV 1 a name for the hash, where it has lost its own
--      from 2 on, three words each: id, what to keep of it, and how:
--        new    in place of what is there
--        again  unless something is there
--        gone   drop it, if it is still the one to keep
-- Answers all of the hash.
local key = KEYS[1]
redis.call('HSETNX', key, '~', ARGV[1])
redis.call('HINCRBY', key, '~n', 1)
for at = 2, #ARGV, 3 do
  local name, kept, how = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if how == 'new' then
    redis.call('HSET', key, name, kept)
  elseif how == 'again' then
    redis.call('HSETNX', key, name, kept)
  elseif redis.call('HGET', key, name) == kept then
    redis.call('HDEL', key, name)
  end
end
return redis.call('HGETALL', key)
