-- question: a short program of many small functions that settles into no single loop
-- expect: 1200 60000
local words, seen, order = {}, {}, {}
local function token(i) local k = (i * 7919) % 1201 return "w" .. k end
local function intern(w) local n = seen[w] if not n then n = #order + 1 order[n] = w seen[w] = n end return n end
for i = 1, 60000 do words[i] = intern(token(i % 1200)) end
local sum = 0
for i = 1, #words do local w = words[i] if w % 7 == 0 then sum = sum + 1 elseif w % 3 == 0 then sum = sum + 2 else sum = sum + (w % 2) end end
print(#order, sum)
