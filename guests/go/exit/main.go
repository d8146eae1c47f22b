// Exit exits with the code that it is given.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	code := 0
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "give a number:", err)
			os.Exit(2)
		}
		code = n
	}
	fmt.Printf("exiting with %d\n", code)
	os.Exit(code)
}
