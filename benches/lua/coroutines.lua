-- question: switching between coroutines
-- expect: 2000001000000
local gen = coroutine.wrap(function() local i = 0 while true do i = i + 1 coroutine.yield(i) end end)
local s = 0
for _ = 1, 2000000 do s = s + gen() end
print(("%d"):format(s))
