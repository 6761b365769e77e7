ngx.header["X-Gateway"] = "moonlit-example"
ngx.header["X-Api-User"] = ngx.var.api_user
