package dns01

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// Values asks the authoritative servers of a name (with the final dot, CNAMEs followed) for its TXT records, and returns
// them for each server that answers. When none can be reached, the resolvers are asked. Empty resolvers: the system's; port
// 0: 53. The error says that nothing was found out.
func Values(ctx context.Context, resolvers []string, port uint16, name string) (map[string][]string, error) {
	c := Config{Resolvers: resolvers}
	p := propagation{kind: Authoritative, port: "53", resolver: resolver{servers: c.resolvers()}}
	if port != 0 {
		p.port = strconv.Itoa(int(port))
	}
	if len(resolvers) == 0 {
		var err error
		if p.resolver.servers, err = systemResolvers(); err != nil {
			return nil, err
		}
	}
	name, err := p.resolver.delegated(ctx, name, true)
	if err != nil {
		return nil, err
	}
	servers, err := p.servers(ctx, name)
	if err == nil {
		if found := valuesAt(ctx, servers, name); len(found) > 0 {
			return found, nil
		}
	}
	m, lookupErr := p.resolver.lookup(ctx, name, dns.TypeTXT)
	if lookupErr != nil {
		return nil, errors.Join(err, lookupErr)
	}
	return map[string][]string{"the resolver": texts(m, name)}, nil
}

func valuesAt(ctx context.Context, servers []server, name string) map[string][]string {
	found := map[string][]string{}
	var mu sync.Mutex
	var wg guard.Group
	for _, s := range servers {
		if s.addr == "" {
			continue
		}
		wg.Go(func() {
			m, seen := s.txt(ctx, name)
			if seen.err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			found[s.String()] = texts(m, name)
		})
	}
	wg.Wait()
	return found
}

// texts are the values of the TXT records of a name, their pieces joined.
func texts(m *dns.Msg, name string) []string {
	var list []string
	for _, rr := range m.Answer {
		if txt, ok := rr.(*dns.TXT); ok && strings.EqualFold(txt.Hdr.Name, name) {
			list = append(list, strings.Join(txt.Txt, ""))
		}
	}
	return list
}

// txt asks one server; the sighting has the error of a server that says nothing about the zone.
func (s server) txt(ctx context.Context, name string) (*dns.Msg, sighting) {
	return s.answer(dnsquery.Ask(ctx, s.addr, dnsquery.Question(name, dns.TypeTXT, s.recurse), 0))
}
