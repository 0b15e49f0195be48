"""Makes what runs follow what is declared."""
