module mirrorproxy

go 1.21
