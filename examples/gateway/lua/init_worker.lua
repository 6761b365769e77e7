local keys = require "keys"
ngx.log(ngx.NOTICE, "gateway worker ", ngx.worker.id(), " is up, keys from ", keys.source())
