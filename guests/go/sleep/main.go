// Sleep says that it sleeps, does for the duration that it is given (as "150ms"), and says that it
// woke. Four goroutines sleep side by side. Without a duration it sleeps for ever.
package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

func main() {
	fmt.Println("sleeping")
	if len(os.Args) < 2 {
		for {
			time.Sleep(time.Hour)
		}
	}
	d, err := time.ParseDuration(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "give a duration:", err)
		os.Exit(2)
	}
	start := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { time.Sleep(d) })
	}
	wg.Wait()
	took := time.Since(start)
	fmt.Printf("awake, early: %t\n", took < d)
}
