module coracle.dev/e2e/testapp

go 1.26
