for _, v in next, {1, 2} do local f = function() return v end f() end goto e do local x = 5LL local y = "a" .. 1.5 .. tostring(nil) end ::e:: return -1, not nil, #"x"
x