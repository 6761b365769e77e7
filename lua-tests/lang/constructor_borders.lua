-- What `#` finds in tables made with nils: the sizes a constructor gives, and what comes after.
print(#{1,nil,3}, #{1,nil,3,nil}, #{nil,nil,3}, #{nil}, #{nil,2}, #{1,2,nil,4}, #{1,nil}, #{nil,nil}, #{1,nil,nil,4}, #{n=1,1,nil,3}, #{[1]=1,nil,3}, #{1,[3]=3}, #{1,2,[4]=4})
local a, n = 1, nil
print(#{a,nil,3}, #{a,n,3}, #{n,n,a}, #{a,n,3,n}, #{a,nil,nil,a}, #{n}, #{n,a}, #{a,n,a,n,a,n,a}, #{(function() return 1,nil,3 end)()}, #{a,(function() return nil,3 end)()}, #{unpack({1,nil,3},1,3)}, #{unpack({},1,3)})
local t = {1,nil,3} t[2]=2 print(#t) t[3]=nil print(#t) t = {1,2,3} t[3]=nil print(#t) t[2]=nil print(#t) t={1,nil,3} t[3]=nil print(#t) t={1,nil,3} t[4]=4 print(#t) t={nil,nil,3} t[1]=1 print(#t) t[2]=2 print(#t)
t = {} t[1]=1 t[2]=2 t[4]=4 print(#t) t={} for i=1,10 do t[i]=i end for i=3,9 do t[i]=nil end print(#t) t[10]=nil print(#t) t={n=1} t[1]=1 t[3]=3 print(#t)
for k, v in pairs{1,nil,3} do io.write(k, "=", v, " ") end print(next({nil,nil,3})) print(unpack{1,nil,3}) print(table.maxn{1,nil,3}, table.getn and table.getn{1,nil,3}, select("#", unpack{1,nil,3}), select("#", unpack{1,nil,nil,4}))
print(table.concat({1,nil,3} , ",", 1, 1)) print(pcall(table.concat, {1,nil,3})) for i, v in ipairs{1,nil,3} do io.write(i, " ") end print()
for i = 1, 3 do local t = {nil, i} io.write(#t, " ") t = {i, nil, i} io.write(#t, " ") t = {nil, nil, nil, i} io.write(#t, " ") end print()
local function f(...) return ... end
local function g(...) return {...} end
for n = 0, 9 do local t = {} for i = 1, n do t[i] = i % 2 == 1 and i or nil end io.write(n, ":", #g(unpack(t, 1, n)), " ", #{f(unpack(t, 1, n))}, " ", #{0, f(unpack(t, 1, n))}, " ", #{nil, f(unpack(t, 1, n))}, " ", #{x = 1, f(unpack(t, 1, n))}, "; ") end print()
print(#{pcall(error)}, #{pcall(f, nil, 3)}, #{pcall(f, nil, nil, nil, 4)}, #{f()}, #{f(nil)}, #{f(nil, nil)}, #{f(1, nil)}, #{(f(1, nil, 3))}, #{f(1, nil, 3), 4})
print(#{7,nil,nil,nil,7}, #{nil,nil,nil,7}, #{1,2,3,nil,nil,6}, #{1,2,nil,nil,5,nil,7,8}, #{nil,2,3,4}, #{1,nil,3,nil,5,nil,7,nil,9}, #{true,nil,false}, #{"a",nil,"c",nil}, #{1,nil,3,[5]=5}, #{1,nil,n=0,4}, #{[1]=1,[2]=nil,[3]=3}, #{[3]=3,1,nil})
for i = 1, 3 do local t = {1, nil, i} t[#t + 1] = "x" io.write(#t, " ") t = g(1, nil, i) t[#t + 1] = "x" t[#t + 1] = "y" io.write(#t, " ", table.maxn(t), " ") end print()
