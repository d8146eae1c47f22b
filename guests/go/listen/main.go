// Serves HTTP with net/http on each listening descriptor that it was given, as LISTEN_FDS and
// LISTEN_FDNAMES tell them; they start at 4, after the standard streams and the root.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || count == 0 {
		fmt.Println("no listeners")
		os.Exit(1)
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	ended := make(chan error)
	for i := range count {
		name := names[i]
		// Else an accept would stop every goroutine, and not only the one that waits.
		err := syscall.SetNonblock(4+i, true)
		var listener net.Listener
		if err == nil {
			listener, err = net.FileListener(os.NewFile(uintptr(4+i), name))
		}
		if err != nil {
			fmt.Println(name, err)
			os.Exit(1)
		}
		answer := func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s by %s\n", r.Method, r.URL.Path, name)
		}
		go func() { ended <- http.Serve(listener, http.HandlerFunc(answer)) }()
	}
	fmt.Println("serving", count)
	fmt.Println(<-ended)
	os.Exit(1)
}
