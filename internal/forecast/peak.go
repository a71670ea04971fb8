package forecast

// Peak is the greatest mean of a slot of the last day.
func (s *Series) Peak() float64 {
	most := 0.0
	for i := s.Last/slot - day; i <= s.Last/slot; i++ {
		if mean, known := s.slots(i, i); known {
			most = max(most, mean)
		}
	}
	return most
}
