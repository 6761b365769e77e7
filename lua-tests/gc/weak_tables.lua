-- Weak keys and values.
local function count(t) local n = 0 for _ in pairs(t) do n = n + 1 end return n end
local wv = setmetatable({}, {__mode = "v"}) local keep = {} wv[1], wv.x, wv.s, wv.n, wv.b = {}, {}, "string", 42, true wv.keep = keep collectgarbage() print(wv[1], wv.x, wv.s, wv.n, wv.b, wv.keep == keep, count(wv))
local wk = setmetatable({}, {__mode = "k"}) local key = {} wk[{}] = 1 wk[key] = 2 wk["s"] = 3 wk[function() return wk end] = 4 collectgarbage() print(count(wk), wk[key], wk.s)
local wkv = setmetatable({}, {__mode = "kv"}) local a, b = {}, {} wkv[a] = {} wkv[{}] = b wkv[a] = b wkv[1] = {} wkv[2] = a collectgarbage() print(count(wkv), wkv[a] == b, wkv[1], wkv[2] == a)
local cache = setmetatable({}, {__mode = "v"}) local function get(k) local v = cache[k] if not v then v = {k} cache[k] = v end return v end local held = get("a") get("b") collectgarbage() print(cache.a == held, cache.b)
local chain = setmetatable({}, {__mode = "k"}) local root = {} do local k = root for i = 1, 10 do local n = {} chain[k] = n k = n end end collectgarbage() print(count(chain) >= 1) root = nil
local weakf = setmetatable({}, {__mode = "v"}) weakf.f = function() return a end weakf.co = coroutine.create(function() end) weakf.p = newproxy() collectgarbage() print(weakf.co, weakf.p)
for i = 1, 200 do wv["k" .. i] = {} end collectgarbage() print(count(wv)) for i = 1, 50 do wv["k" .. i] = keep end collectgarbage() print(count(wv))
setmetatable(wv, nil) wv.y = {} collectgarbage() print(type(wv.y))
