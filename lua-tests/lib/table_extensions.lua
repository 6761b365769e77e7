-- table.new and table.clear: modules that show up as fields once required.
print(table.new, table.clear)
local new, clear = require("table.new"), require("table.clear")
print(table.new == new, table.clear == clear)
local t = new(10, 5) print(next(t), #t) for i = 1, 20 do t[i] = i end t.x = 1 print(#t, t.x)
clear(t) print(next(t), #t, t.x) t[1] = "again" print(t[1])
print(pcall(new, "x", 0)) print(pcall(new)) print(pcall(clear, 1)) print(#new(0, 0), next(new(100000, 0)))
