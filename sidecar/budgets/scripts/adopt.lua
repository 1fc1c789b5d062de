-- Whether a tenant is new here, as the tag that knows all tags has it; it is not new any more afterwards.
-- KEYS 4 tags
-- ARGV 3 tag, 4 source
-- Answers {1, n, 1 or 0}.
local wrong = astray(false)
if wrong then
  return wrong
end
return {1, tonumber(redis.call('HGET', EPOCH, 'n')), redis.call('HSETNX', KEYS[4], ARGV[3], ARGV[4])}
