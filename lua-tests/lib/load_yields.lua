-- A reader function of `load` may yield.
local function yielding() return coroutine.yield("need more") end
local co = coroutine.wrap(function() return load(yielding) end) print(co()) print(co("return ")) print(co("99")) print(co(nil)())
