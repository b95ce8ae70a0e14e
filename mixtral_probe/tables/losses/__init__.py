"""The load-balancing losses and what adds to them."""
