// The one program of the Linux images that the cluster's tests run: a sandbox, a server and a client.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const patience = 5 * time.Second

func main() {
	usage := "usage: testapp pause | serve ADDRESS | get URL | resolve NAME"
	if len(os.Args) < 2 || (os.Args[1] != "pause" && len(os.Args) != 3) {
		fail(usage)
	}
	switch os.Args[1] {
	case "pause":
		pause()
	case "serve":
		fail(http.ListenAndServe(os.Args[2], http.HandlerFunc(say)))
	case "get":
		get(os.Args[2])
	case "resolve":
		resolve(os.Args[2])
	default:
		fail(usage)
	}
}

func fail(what any) {
	fmt.Fprintln(os.Stderr, "testapp:", what)
	os.Exit(1)
}

// pause is a pod's first process: it waits for its end.
func pause() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
}

// say answers with who answers, where, and to whom.
func say(w http.ResponseWriter, r *http.Request) {
	name, _ := os.Hostname()
	local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	fmt.Fprintf(w, "%s at %s to %s\n", name, local, r.RemoteAddr)
}

func get(url string) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		fail(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		fail(err)
	}
}

func resolve(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		fail(err)
	}
	for _, address := range addresses {
		fmt.Println(address)
	}
}
