-- table.sort with and without a comparator, order of equal elements, errors.
local function show(t) local r = {} for i = 1, #t do r[i] = tostring(t[i]) end return table.concat(r, " ") end
local function sorted(t, f) table.sort(t, f) return show(t) end
print(sorted{}, sorted{1}, sorted{2, 1}, sorted{3, 1, 2}, sorted{5, 4, 3, 2, 1}, sorted{1, 1, 1})
print(sorted{"banana", "apple", "Cherry", "apple2", "", "a\0b", "a"})
print(sorted({3, 1, 2}, function(a, b) return a > b end))
print(sorted{1.5, -2, 0, 1e10, -1e10, 0.1})
local seed = 42
local function rnd(n) seed = (seed * 1103515245 + 12345) % 2147483648 return seed % n end
for _, n in ipairs{2, 3, 4, 5, 10, 50, 100, 333, 1000} do
  local t, u = {}, {}
  for i = 1, n do t[i] = rnd(1000) u[i] = t[i] end
  table.sort(t)
  local calls = 0
  table.sort(u, function(a, b) calls = calls + 1 return a < b end)
  local ok = true
  for i = 2, n do ok = ok and t[i - 1] <= t[i] end
  for i = 1, n do ok = ok and t[i] == u[i] end
  print(n, ok, calls)
end
-- The sort is not stable, but its result is always the same.
local recs = {} for i = 1, 30 do recs[i] = {k = i % 4, i = i} end
table.sort(recs, function(a, b) return a.k < b.k end)
local r = {} for i, x in ipairs(recs) do r[i] = x.k .. ":" .. x.i end print(table.concat(r, " "))
local mt = {__lt = function(a, b) return a.v < b.v end}
local objs = {} for i = 1, 7 do objs[i] = setmetatable({v = (i * 5) % 7}, mt) end
table.sort(objs) r = {} for i, o in ipairs(objs) do r[i] = o.v end print(table.concat(r, " "))
print(pcall(table.sort, {3, 1, "x"})) print(pcall(table.sort, {1, {}, 2})) print(pcall(table.sort, {{}, {}}))
print(pcall(table.sort, {1, 2, 3, 4, 5}, function() return true end))
print(pcall(table.sort, {3, 2, 1}, function(a, b) error("cmp", 0) end))
print(pcall(table.sort, {1, 2}, 5)) print(pcall(table.sort))
local mixed = {3, 1, 2} mixed.x = "kept" table.sort(mixed) print(mixed.x, show(mixed))
print(sorted({2, 1}, function(a, b) return nil end), sorted({2, 1}, function(a, b) return 0 end))
