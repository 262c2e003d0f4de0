package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/config"
)

// completeTime is how long a shell waits for names at most.
const completeTime = time.Second

// completeNames lets the shell complete the names of certificates. It says nothing when there are none to be had.
func (a *app) completeNames(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && !strings.Contains(cmd.Use, "...") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := slices.DeleteFunc(a.certificates(cmd.Context()), func(name string) bool {
		return slices.Contains(args, name) || !strings.HasPrefix(name, begun)
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// certificates lists what the configuration has, or what the daemon knows where the configuration cannot be read.
func (a *app) certificates(ctx context.Context) []string {
	var names []string
	if c, _, _ := config.Load(a.config, config.Lenient, config.WithoutFiles); c != nil {
		for i := range c.Certificates {
			names = append(names, c.Certificates[i].Name)
		}
		return names
	}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	client, err := control.Dial(ctx, config.Socket(a.config))
	if err != nil {
		return nil
	}
	status, err := client.Status(ctx, control.StatusRequest{})
	if err != nil {
		return nil
	}
	for _, c := range status.Certificates {
		names = append(names, c.Name)
	}
	return names
}
