-- A listener that runs loops of its own while a side trace is about to be recorded leaves no instruction out.
local told = assert(loadstring([[
  local n = 0
  return function() for _ = 1, 100 do for _, v in pairs({ 1, 2, 3 }) do n = n + v end end end
]]))()
local plain
local bad = 0
for at = 0, 60 do
  local work = assert(loadstring([[
    local told, at = ...
    local s, c = 0, 0
    for k = 1, 60 do
      for i = 1, 8 do
        c = c + 1
        if c == at then jit.attach(told, "trace") end
        for j = i, 1, -1 do s = s + j end
        if c > 1000 then return -c end
      end
    end
    return s
  ]]))
  local s = work(told, at)
  plain = plain or s
  if s ~= plain then bad = bad + 1 end
  jit.attach(told)
end
print(plain, bad)
