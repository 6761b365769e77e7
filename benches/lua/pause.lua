-- question: longest collector step beside 100 MB alive that the program goes on writing to
-- expect: nothing lost
-- The longest time between two looks at the clock goes to stderr: a few allocations, and sometimes a step. CPU time.
local clock, collect = os.clock, collectgarbage
local live, n = {}, 0
while collect("count") < 100 * 1024 do
  for i = 1, 1000 do
    n = n + 1
    live[n] = {id = n, name = "object " .. n, next = live[n - 1], list = {n, n + 1, n + 2}}
  end
end
collect()
local longest, seed = {0, 0, 0, 0, 0}, 42
for i = 1, 300000 do
  local t = clock()
  for j = 1, 10 do
    seed = (seed * 1103515245 + 12345) % 2147483648
    local o = live[seed % n + 1]
    o.list = {o.id, o.id + 1, o.id + 2}
    o.next = live[(seed + j) % n + 1]
  end
  t = clock() - t
  for k = 1, 5 do if t > longest[k] then t, longest[k] = longest[k], t end end
end
io.stderr:write(("longest steps, ms: %.3f %.3f %.3f %.3f %.3f\n"):format(longest[1] * 1e3, longest[2] * 1e3, longest[3] * 1e3,
  longest[4] * 1e3, longest[5] * 1e3))
local ok = true
for i = 1, n do local o = live[i] ok = ok and o.id == i and o.list[3] == i + 2 and o.name == "object " .. i end
print(ok and "nothing lost" or "something lost")
