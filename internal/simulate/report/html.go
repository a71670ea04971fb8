package report

import "io"

// HTML x
func (r *Report) HTML(to io.Writer) error { return nil }
