package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// calm is a fleet without faults, through a balancer, to be measured.
type calm struct {
	*site
	list  []cert
	sites int // the first ones are served by nginx
	disk  []time.Duration
	wire  []time.Duration
}

func runCalm(acmed, dir string, certs, sites, rounds int) (err error) {
	s, err := newSite(acmed, dir, 3, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c := &calm{site: s, sites: sites}
	for i := range certs {
		c.list = append(c.list, cert{name: fmt.Sprint("c", i), profile: "long", solver: []string{"http", "alpn"}[i%2], nginx: i < sites})
	}
	c.balance()
	for _, n := range c.nodes {
		if err := errors.Join(n.configure(c.list), n.serve(c.list)); err != nil {
			return err
		}
	}
	if err := c.found(); err != nil {
		return err
	}
	if err := c.watch.begin(false); err != nil {
		return err
	}
	defer c.watch.end()
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	if err := c.agree("all are obtained", c.list, func(cert, *x509.Certificate) bool { return true }); err != nil {
		return err
	}
	t, _ := c.orders.tally(nil)
	fmt.Printf("behind a balancer: %d certificates over %d nodes, half by http-01 and half by tls-alpn-01: %d orders, %d failed validations\n", len(c.list), len(c.nodes), t.placed, t.invalid)
	if t.invalid > 0 || t.placed != len(c.list) {
		return errors.New("that is not one order and no failed validation for each")
	}
	for i := range rounds {
		if err := c.round(c.nodes[i%len(c.nodes)]); err != nil {
			return err
		}
	}
	fmt.Printf("commit to the disk of another node, %d times: p50 %s, p99 %s\n", len(c.disk), quantile(c.disk, 50), quantile(c.disk, 99))
	fmt.Printf("commit to nginx of another node, %d times: p50 %s, p99 %s\n", len(c.wire), quantile(c.wire, 50), quantile(c.wire, 99))
	return c.rolling()
}

func quantile(list []time.Duration, percent int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)*percent/100, len(list)-1)].Round(100 * time.Microsecond)
}

// round renews what nginx serves on one node, and looks when the others have it.
func (c *calm) round(at *node) error {
	args := []string{"renew", "--force", "--yes"}
	before := map[string]int64{}
	for _, k := range c.list[:c.sites] {
		args = append(args, k.name)
		before[k.name] = c.watch.headOf(k.name).N
	}
	done := make(chan error, 1)
	var failed error
	go func() { _, err := at.run(args...); done <- err }()
	type place struct {
		cert string
		node *node
	}
	missing := map[place]bool{}
	for _, k := range c.list[:c.sites] {
		for _, n := range c.nodes {
			if n != at {
				missing[place{k.name, n}] = true
			}
		}
	}
	err := await("the others serve what one renewed", func() bool {
		select {
		case failed = <-done:
			done <- failed
		default:
		}
		for p := range missing {
			h := c.watch.headOf(p.cert)
			if h.N == before[p.cert] {
				continue
			}
			if leaf := served(p.node.https, p.cert+".example.com"); leaf != nil && leaf.NotAfter.Equal(h.NotAfter) && leaf.Equal(p.node.leaf(p.cert)) {
				c.wire = append(c.wire, time.Since(h.Committed))
				delete(missing, p)
			}
		}
		return len(missing) == 0 || failed != nil
	})
	if err = errors.Join(err, <-done); err != nil {
		return err
	}
	for _, k := range c.list[:c.sites] {
		for _, n := range c.nodes {
			if n == at {
				continue
			}
			info, err := os.Stat(filepath.Join(n.dir, "state/certs", k.name, "current/cert.pem"))
			if err != nil {
				return err
			}
			c.disk = append(c.disk, info.ModTime().Sub(c.watch.headOf(k.name).Committed))
		}
	}
	return nil
}

// served is what a server answers with.
func served(port int, name string) *x509.Certificate {
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0]
}

// rolling lets two more nodes join, then rolls another list of names out, node by node. The last node keeps the old one for a
// while.
func (c *calm) rolling() error {
	always := func(cert, *x509.Certificate) bool { return true }
	before, _ := c.orders.tally(nil)
	for range 2 {
		if err := c.add(len(c.nodes)); err != nil {
			return err
		}
		n := c.nodes[len(c.nodes)-1]
		key, err := os.ReadFile(c.nodes[0].dir + "/seal")
		if err = errors.Join(err, os.WriteFile(n.dir+"/seal", key, 0o600)); err != nil {
			return err
		}
		if err := errors.Join(n.configure(c.list), n.serve(c.list), n.start()); err != nil {
			return err
		}
	}
	c.balance()
	if err := c.agree("new nodes have everything", c.list, always); err != nil {
		return err
	}
	joined, _ := c.orders.tally(nil)
	changed := c.list[c.sites : c.sites+10]
	for i := range changed {
		changed[i].extra = ", v1." + changed[i].name + ".example.com"
	}
	last := c.nodes[len(c.nodes)-1]
	for _, n := range c.nodes[:len(c.nodes)-1] {
		if err := n.configure(c.list); err != nil {
			return err
		}
		if _, err := n.run("reload"); err != nil {
			return err
		}
	}
	named := func(_ cert, leaf *x509.Certificate) bool { return len(leaf.DNSNames) == 2 }
	if err := c.agree("new names are served", changed, named); err != nil {
		return err
	}
	out, err := last.run("status", changed[0].name)
	if err != nil {
		return err
	}
	told := strings.Contains(out, "newer configuration")
	if err := last.configure(c.list); err != nil {
		return err
	}
	if _, err := last.run("reload"); err != nil {
		return err
	}
	time.Sleep(10 * time.Second) // in which nothing may happen
	rolled, _ := c.orders.tally(nil)
	fmt.Printf("two more nodes join: %d orders; names of %d certificates change on %d nodes one by one: %d orders, the node that comes last is told that its configuration is old: %v\n",
		joined.placed-before.placed, len(changed), len(c.nodes), rolled.placed-joined.placed, told)
	if joined != before || rolled.placed-joined.placed != len(changed) {
		return fmt.Errorf("orders before, with all nodes, and after the change: %+v, %+v, %+v", before, joined, rolled)
	}
	return nil
}
