module goproxy

go 1.25
