// Files works with files below the folder that it is given (/tmp), and prints a line for each kind
// of work that came out right. It leaves nothing behind.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	parent := "/tmp"
	if len(os.Args) > 1 {
		parent = os.Args[1]
	}
	dir := filepath.Join(parent, "files-guest")
	if err := os.Mkdir(dir, 0o755); err != nil {
		fmt.Println("mkdir: error", err)
		os.Exit(1)
	}
	work := []struct {
		name string
		do   func(string) error
	}{
		{"create", create}, {"append", appendTo}, {"rename", rename},
		{"thousand", thousand}, {"symlinks", symlinks}, {"remove", remove},
	}
	failed := 0
	for _, w := range work {
		if err := w.do(dir); err != nil {
			failed = 1
			fmt.Printf("%s: error %v\n", w.name, err)
		} else {
			fmt.Printf("%s: ok\n", w.name)
		}
	}
	os.Exit(failed)
}

func holds(path, want string) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%s holds %q, not %q", path, got, want)
	}
	return nil
}

func create(dir string) error {
	a := filepath.Join(dir, "a")
	if err := os.WriteFile(a, []byte("one\n"), 0o644); err != nil {
		return err
	}
	if _, err := os.OpenFile(a, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("O_EXCL on a file that exists: %v", err)
	}
	return holds(a, "one\n")
}

func appendTo(dir string) error {
	a := filepath.Join(dir, "a")
	file, err := os.OpenFile(a, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := file.WriteString("two\n"); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return holds(a, "one\ntwo\n")
}

func rename(dir string) error {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(b, []byte("over"), 0o644); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return err
	}
	if _, err := os.Lstat(a); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the old name still exists: %v", err)
	}
	return holds(b, "one\ntwo\n")
}

// thousand makes more entries than one buffer of readdir holds; each must be listed once.
func thousand(dir string) error {
	many := filepath.Join(dir, "many")
	if err := os.Mkdir(many, 0o755); err != nil {
		return err
	}
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(many, fmt.Sprintf("file-%04d", i)), nil, 0o644); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(many) // sorted by name
	if err != nil {
		return err
	}
	if len(entries) != 1000 {
		return fmt.Errorf("%d entries are listed", len(entries))
	}
	for i, entry := range entries {
		if want := fmt.Sprintf("file-%04d", i); entry.Name() != want || !entry.Type().IsRegular() {
			return fmt.Errorf("entry %d is %v, not the file %s", i, entry, want)
		}
	}
	return os.RemoveAll(many)
}

// symlinks makes a relative link, an absolute one and a loop.
func symlinks(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	links := map[string]string{"relative": "b", "absolute": at("b"), "loop": "loop"}
	for name, target := range links {
		if err := os.Symlink(target, at(name)); err != nil {
			return err
		}
		if got, err := os.Readlink(at(name)); err != nil || got != target {
			return fmt.Errorf("readlink of %s gives %q, %v", name, got, err)
		}
	}
	if _, err := os.ReadFile(at("loop")); !errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("a loop is not ELOOP: %v", err)
	}
	if err := holds(at("relative"), "one\ntwo\n"); err != nil {
		return err
	}
	return holds(at("absolute"), "one\ntwo\n")
}

func remove(dir string) error {
	if err := os.Remove(dir); !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("removing a folder with files: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("it still exists: %v", err)
	}
	return nil
}
