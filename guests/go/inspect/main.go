// Inspect prints what a guest sees: arguments, environment, terminals, working directory, the root,
// and each path that it is given. The guests inspect in Rust and C print the same lines.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

func main() {
	env := os.Environ()
	slices.Sort(env)
	fmt.Println("args:", list(os.Args))
	fmt.Println("env:", list(env))
	fmt.Println("tty:", terminal(os.Stdin), terminal(os.Stdout), terminal(os.Stderr))
	if cwd, err := os.Getwd(); err != nil {
		fmt.Println("cwd: error", errno(err))
	} else {
		fmt.Println("cwd:", cwd)
	}
	fmt.Println("/:", content("/"))
	for _, path := range os.Args[1:] {
		fmt.Printf("%s: %s\n", path, describe(path))
	}
}

func describe(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return content(path)
	}
	return fmt.Sprintf("link to %s, %s", quoted(target), content(path))
}

func content(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return "error " + errno(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		slices.Sort(names)
		return list(names)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "error " + errno(err)
	}
	return quoted(string(text))
}

func terminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func list(items []string) string {
	var all []string
	for _, item := range items {
		all = append(all, quoted(item))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func quoted(text string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`, "\t", `\t`).Replace(text) + `"`
}

// errno gives an error's number by its name in POSIX; WASI's numbers differ from Linux's.
func errno(err error) string {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return err.Error()
	}
	names := map[syscall.Errno]string{
		syscall.EACCES: "EACCES", syscall.EBADF: "EBADF", syscall.EEXIST: "EEXIST",
		syscall.EINVAL: "EINVAL", syscall.EISDIR: "EISDIR", syscall.ELOOP: "ELOOP",
		syscall.ENAMETOOLONG: "ENAMETOOLONG", syscall.ENOENT: "ENOENT", syscall.ENOSPC: "ENOSPC",
		syscall.ENOTDIR: "ENOTDIR", syscall.ENOTEMPTY: "ENOTEMPTY", syscall.ENOTSUP: "ENOTSUP",
		syscall.EPERM: "EPERM", syscall.EROFS: "EROFS", syscall.EXDEV: "EXDEV",
		syscall.Errno(76): "ENOTCAPABLE",
	}
	if name, ok := names[number]; ok {
		return name
	}
	return fmt.Sprintf("errno %d", number)
}
