// Recursion calls itself as deep as it is told (10,000), which takes a stack that Go grows in its
// own memory beside the engine's.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	depth := 10_000
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "give a number:", err)
			os.Exit(2)
		}
		depth = n
	}
	fmt.Printf("sum to %d: %d\n", depth, sum(depth))
}

//go:noinline
func sum(n int) int {
	if n == 0 {
		return 0
	}
	return n + sum(n-1)
}
