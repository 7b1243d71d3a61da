"""What an operator may do to breakers and ask about them."""
