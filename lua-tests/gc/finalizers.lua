-- __gc of userdata, order at collection, resurrection; tables have none.
local log = {}
local function mk(name) local p = newproxy(true) getmetatable(p).__gc = function(o) log[#log + 1] = name end return p end
do local a, b, c = mk("a"), mk("b"), mk("c") a, b, c = nil, nil, nil end
collectgarbage() collectgarbage() table.sort(log) print(table.concat(log, " "))
log = {} local kept do local p = newproxy(true) getmetatable(p).__gc = function(o) kept = o log[#log + 1] = "resurrected" end p = nil end
collectgarbage() collectgarbage() print(table.concat(log, " "), type(kept)) kept = nil collectgarbage() collectgarbage() print(#log)
log = {} do local t = setmetatable({}, {__gc = function() log[1] = "table" end}) t = nil end collectgarbage() print(#log)
-- An error in a finalizer does not reach the program in the middle of other work.
local p = newproxy(true) getmetatable(p).__gc = function() log[#log + 1] = "ran" end p = nil collectgarbage() collectgarbage() print(#log)
local proxies = {} for i = 1, 100 do proxies[i] = mk("x") end log = {} proxies = nil collectgarbage() collectgarbage() print(#log)
