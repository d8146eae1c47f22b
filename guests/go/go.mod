module coracle.dev/guests

go 1.25
