-- How counters stand.
-- KEYS 4.. counters
-- ARGV 3.. bucket of each
-- Answers {1, n, spent, held, unsettled, ...}.
local wrong = astray(true)
if wrong then
  return wrong
end
local answer = {1, tonumber(redis.call('HGET', EPOCH, 'n'))}
for i = 4, #KEYS do
  local _, spent, held, unsettled = read_counter(KEYS[i], ARGV[i - 1])
  answer[#answer + 1] = spent
  answer[#answer + 1] = held
  answer[#answer + 1] = unsettled
end
return answer
