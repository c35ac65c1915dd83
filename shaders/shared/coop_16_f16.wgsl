// Cooperative matrices of 16 by 16: f16 operands, f32 sums.

const TILE: u32 = 16u;
alias Operand = f16;
alias MatA = coop_mat16x16<f16, A>;
alias MatB = coop_mat16x16<f16, B>;
alias MatC = coop_mat16x16<f32, C>;
