-- Write what the books say into counters of an epoch that is not in force yet.
-- KEYS 4 fence, 5.. counters
-- ARGV 1 the new epoch, 3 who holds the fence, then for each counter: spent, bucket, expiry
-- Answers 1, or 0 when the fence is lost.
if redis.call('GET', KEYS[4]) ~= ARGV[3] then
  return 0
end
redis.call('PEXPIRE', KEYS[4], 10000)
for i = 5, #KEYS do
  local at, key = 3 + (i - 5) * 3, KEYS[i]
  if not is_of_this_epoch(key) then
    begin_counter(key, ARGV[at + 3])
  end
  spend(key, ARGV[at + 2], tonumber(ARGV[at + 1]))
end
return 1
