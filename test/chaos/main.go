// Command chaos runs fleets of the real daemon on a real cluster of etcd with a real CA, and looks at them from outside: it
// sees every request to the CA and every change in the store.
//
// The first part is calm. Three nodes behind a balancer obtain all certificates by http-01 and tls-alpn-01, renew some over
// and over, and two more nodes join. It prints how many validations failed, how long a version takes to the disks and web
// servers of the others, and what joining and a rolling change of the configuration cost.
//
// In the second part everything happens: nodes are killed and paused beyond their lease, the leader of etcd is killed, the
// quorum is lost, the store is restored from a backup, lifetimes become shorter and names change node by node with a
// straggler. It prints the orders that the CA saw, and fails if two of one name overlapped, if a number was given to two
// versions, if a version went back, or if the nodes do not serve the same at the end.
//
//	chaos [-part 1|2] [-keep DIR] ACMED
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func main() {
	part := flag.Int("part", 0, "only this part")
	flag.DurationVar(&limit, "limit", limit, "give up after this long for one step")
	keep := flag.String("keep", "", "keep the files, with the logs of all nodes, in this new directory")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *keep, *part); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(acmed, keep string, part int) (err error) {
	dir := keep
	if keep == "" {
		if dir, err = os.MkdirTemp("", "acmed-chaos"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	for _, name := range []string{"calm", "chaos"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	if part != 2 {
		if err := runCalm(acmed, filepath.Join(dir, "calm"), 500, 20, 10); err != nil {
			return err
		}
	}
	if part == 1 {
		return nil
	}
	return runChaos(acmed, filepath.Join(dir, "chaos"), size{nodes: 5, certs: 200, kills: 3, pauses: 2, outage: 40 * time.Second})
}
