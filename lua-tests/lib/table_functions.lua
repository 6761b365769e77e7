-- insert, remove, concat, maxn, getn, move, unpack.
local function show(t, n) local r = {} for i = 1, n or #t do r[i] = tostring(t[i]) end return table.concat(r, ",") end
local t = {}
table.insert(t, "a") table.insert(t, 1, "b") table.insert(t, 2, "c") table.insert(t, #t + 1, "d") print(show(t))
table.insert(t, 4, "e") print(show(t), #t)
print(table.remove(t), table.remove(t, 1), table.remove(t, 2), show(t), #t)
print(select("#", table.remove({})), table.remove({1, 2, 3}, 3), table.remove({1, 2, 3}, 1), select("#", table.remove({1}, 5)), select("#", table.remove({1}, 0)))
local u = {1, 2, 3} table.insert(u, 10, "far") print(u[10], u[3])
local v = {} for i = 1, 100 do table.insert(v, 1, i) end print(v[1], v[50], v[100], #v)
for i = 1, 100 do assert(table.remove(v, 1) == 101 - i) end print(#v)
print(table.concat({}), table.concat({}, ","), table.concat({1}), table.concat({1, 2.5, "x"}, "-"), table.concat({1, 2, 3}, ",", 2), table.concat({1, 2, 3}, ",", 2, 2), table.concat({1, 2, 3}, ",", 3, 2), table.concat({1, 2, 3}, 0))
print(table.concat({[0] = "z", "a", "b"}, " ", 0), #table.concat({("x"):rep(1000), ("y"):rep(1000)}, ("z"):rep(10)))
print(table.maxn({}), table.maxn({1, 2, 3}), table.maxn({[10] = 1, [2.5] = 1}), table.maxn({[-5] = 1}), table.maxn({x = 1}), table.maxn({1, 2, nil, 4}))
print(table.getn({1, 2, 3}), table.getn({}))
print(unpack({1, 2, 3})) print(unpack({1, 2, 3}, 2)) print(unpack({1, 2, 3}, 2, 3)) print(unpack({1, 2}, 1, 4)) print(unpack({}, 1, 2)) print(select("#", unpack({}))) print(unpack({1, 2, 3}, -1, 1)) print((unpack{1, 2})) print(unpack({1, 2, 3}, "2", "3"))
print(show(table.move({1, 2, 3}, 1, 3, 2)), show(table.move({1, 2, 3, 4}, 2, 4, 1)), show(table.move({1, 2, 3}, 1, 3, 1, {})), show(table.move({1, 2}, 1, 2, 3, {7, 8})), show(table.move({1, 2}, 2, 1, 5)), #table.move({1, 2, 3}, 1, 0, 1, {}))
print(table.foreach({10, 20, 30}, function(k, v) if v == 20 then return k end end), table.foreach({}, print))
print(table.foreachi({10, 20, 30}, function(i, v) if i == 3 then return v * 2 end end), table.foreachi({1, 2}, function() end))
local seen = {} table.foreach({a = 1, b = 2, 3}, function(k, v) seen[#seen + 1] = tostring(k) .. v end) table.sort(seen) print(show(seen))
